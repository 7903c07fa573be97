"""Which parts of vLLM's engine are the project's own on a card; elsewhere all are vLLM's."""

from vllm.platforms import current_platform
from vllm.v1.attention.backends.fa_utils import get_flash_attn_version

from services.server.settings import EngineSettings

_FLASH_ATTENTION_IN_GRAPHS = 3  # the version, Hopper's, that vLLM records for steps of any shape


def scheduler(settings: EngineSettings) -> str | None:
    """Where steps are graphs, and vLLM schedules them ahead as on every card; None for vLLM's own."""
    if settings.enforce_eager or not current_platform.is_cuda():
        return None
    return "services.server.engine.card.scheduling.GatheringScheduler"


def worker() -> str:
    """See ``worker.py``; ``auto`` for vLLM's own."""
    return "services.server.engine.card.worker.CardWorker" if current_platform.is_cuda() else "auto"


def whole_graphs(settings: EngineSettings) -> dict[str, str]:
    """One CUDA graph for a whole step, new prompts among it (docs/decisions/0099); empty, for vLLM's own choice, where attention cannot."""
    if settings.enforce_eager or not current_platform.is_cuda():
        return {}
    return {"cudagraph_mode": "FULL"} if get_flash_attn_version() == _FLASH_ATTENTION_IN_GRAPHS else {}
