"""vLLM's worker on a processor, with the project's own products of adapters; vLLM loads it by its name, in the engine's process."""

from vllm.platforms import current_platform
from vllm.v1.worker.cpu_worker import CPUWorker

from services.server.engine.processor import products
from services.server.engine.start_times import NotingWorker


class AdapterWorker(NotingWorker, CPUWorker):  # type: ignore[misc]  # vLLM's types are not followed
    """vLLM asks its platform for the class that multiplies by adapters, when the model is loaded."""

    def init_device(self) -> None:
        """See ``CPUWorker.init_device``."""
        current_platform.get_punica_wrapper = _products
        super().init_device()


def _products() -> str:
    return f"{products.__name__}.{products.AdapterProducts.__qualname__}"
