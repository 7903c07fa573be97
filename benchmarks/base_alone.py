"""Whetstone's server on an engine without LoRA: the base model alone, which the product itself never serves so.

python -m benchmarks.base_alone serve ...     as ``python -m services.server serve``; for ``benchmarks.against_base``
"""

import importlib
import sys
from typing import Any

from services.base_model.identity import BaseModel
from services.common.paths import DataPaths
from services.server import __main__ as command
from services.server import serve
from services.server.engine.environment import prepare_environment
from services.server.engine.protocol import Engine
from services.server.serve import StartEngine, vllm_starter
from services.server.settings import ServerSettings


def starter(settings: ServerSettings, paths: DataPaths, base: BaseModel) -> StartEngine:
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
        return await vllm_starter(settings, paths, base)()

    return start


if __name__ == "__main__":
    serve.vllm_starter = starter
    sys.exit(command.main())
