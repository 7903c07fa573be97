"""Whetstone's server on an engine without LoRA: the base model alone, which the product itself never serves so.

python -m benchmarks.base_alone serve ...     as ``python -m services.server serve``; for ``benchmarks.against_base``
"""

import importlib
import sys
from typing import Any

from services.base_model.identity import BaseModel
from services.common.paths import DataPaths
from services.server import __main__ as command
from services.server.engine import starter
from services.server.engine.environment import prepare_environment
from services.server.engine.protocol import Engine
from services.server.engine.starter import StartEngine, vllm_starter
from services.server.settings import ServerSettings


def start_without_lora(
    settings: ServerSettings, paths: DataPaths, base: BaseModel, *, json_logs: bool | None = None
) -> StartEngine:
    """See ``vllm_starter``."""

    async def start() -> Engine:
        prepare_environment(settings.engine)  # before the import, here too
        module: Any = importlib.import_module("services.server.engine.vllm")
        arguments = module.lora_arguments

        def without_lora(*which: object) -> object:
            changed = arguments(*which)
            changed.enable_lora = False
            return changed

        module.lora_arguments = without_lora
        return await vllm_starter(settings, paths, base, json_logs=json_logs)()

    return start


if __name__ == "__main__":
    starter.vllm_starter = start_without_lora
    sys.exit(command.main())
