"""How the engine of production is started: vLLM, and a second one where an adapter is to be merged."""

import asyncio
import importlib
from collections.abc import Awaitable, Callable
from functools import partial

from services.base_model.identity import BaseModel
from services.common.parts import Parts
from services.common.paths import DataPaths
from services.server.engine.environment import prepare_environment
from services.server.engine.merging.engine import MergingEngine
from services.server.engine.protocol import Engine
from services.server.settings import ServerSettings

StartEngine = Callable[[], Awaitable[Engine]]


def vllm_starter(
    settings: ServerSettings, paths: DataPaths, base: BaseModel, *, json_logs: bool | None = None
) -> StartEngine:
    """How to start vLLM on the base model's folder; ``json_logs`` as ``configure_logs`` has it."""

    async def start() -> Engine:
        parts = Parts()
        parts.begin("vLLM's import")
        prepare_environment(settings.engine, json_logs=json_logs)
        # Imported here: it takes seconds, and reads the environment that was just prepared.
        module = await asyncio.to_thread(importlib.import_module, "services.server.engine.vllm")
        which = (paths.models / base.name, base.name, settings.engine)
        engine: Engine = await module.VllmEngine.start(*which, limits=settings.limits, parts=parts)
        if not settings.engine.merged_adapter:
            return engine
        return MergingEngine(
            engine,
            partial(module.VllmEngine.start_second, engine, *which, limits=settings.limits),
            adapter=settings.engine.merged_adapter,
            tolerance=settings.adapters.probe_tolerance,
        )

    return start
