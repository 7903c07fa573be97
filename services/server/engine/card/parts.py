"""Which parts of vLLM's engine are the project's own on a card; elsewhere all are vLLM's."""

from typing import Any

from vllm.platforms import current_platform
from vllm.v1.attention.backends.fa_utils import get_flash_attn_version

from services.server.settings import EngineSettings

_RECORDS_ANY_STEP = 3  # the version of FlashAttention, Hopper's, of which vLLM records steps of any shape


def own_parts(settings: EngineSettings) -> dict[str, Any]:
    """Arguments for vLLM; where no step is a graph only the worker, which notes how long a start takes."""
    if not current_platform.is_cuda():
        return {}
    own: dict[str, Any] = {"worker_cls": "services.server.engine.card.worker.CardWorker"}
    if settings.enforce_eager:
        return own
    own["scheduler_cls"] = "services.server.engine.card.scheduling.GatheringScheduler"
    if get_flash_attn_version() == _RECORDS_ANY_STEP:
        own["compilation_config"] = {"cudagraph_mode": "FULL"}
        own["worker_cls"] = "services.server.engine.card.worker.WholeStepWorker"
    return own
