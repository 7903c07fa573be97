"""Which parts of vLLM's engine are the project's own on a processor; elsewhere all are vLLM's."""

from vllm.platforms import current_platform


def own_parts() -> dict[str, str]:
    """Arguments for vLLM."""
    return {"worker_cls": "services.server.engine.processor.worker.AdapterWorker"} if current_platform.is_cpu() else {}
