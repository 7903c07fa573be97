"""Which parts of vLLM's engine are the project's own on a card; elsewhere all are vLLM's."""

from vllm.platforms import current_platform

from services.server.settings import EngineSettings


def scheduler(settings: EngineSettings) -> str | None:
    """Where steps are graphs, and vLLM schedules them ahead as on every card; None for vLLM's own."""
    if settings.enforce_eager or not current_platform.is_cuda():
        return None
    return "services.server.engine.card.scheduling.GatheringScheduler"
