"""vLLM's worker on a card, with ``QuickMapping``; vLLM loads it by its name, in the engine's processes."""

from typing import Any

from vllm.v1.worker.gpu_worker import Worker

from services.server.engine.card.mapping import QuickMapping


class CardWorker(Worker):  # type: ignore[misc]  # vLLM's types are not followed
    """A worker that does not wait for its card when it tells it whose tokens come."""

    def load_model(self, **options: Any) -> None:
        """See ``Worker.load_model``."""
        super().load_model(**options)
        manager = self.model_runner.lora_manager._adapter_manager  # noqa: SLF001 - vLLM has no other way to it
        for wrapper in manager.punica_wrapper_mapping.values():
            QuickMapping.speed_up(wrapper)
