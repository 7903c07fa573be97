"""vLLM's worker on a card; vLLM loads it by its name, in the engine's process."""

from typing import Any

from vllm.v1.worker.gpu_worker import Worker

from services.server.engine.card.mapping import QuickMapping
from services.server.engine.card.staged import send_once
from services.server.engine.card.whole import plan_as_recorded
from services.server.engine.start_times import NotingWorker


class CardWorker(NotingWorker, Worker):  # type: ignore[misc]  # vLLM's types are not followed
    """A worker on any card, with less work beside the model's own step."""

    def load_model(self, **options: Any) -> None:
        """See ``Worker.load_model``."""
        super().load_model(**options)
        send_once(self.model_runner.sampler)
        if self.lora_config is not None:
            manager = self.model_runner.lora_manager._adapter_manager  # noqa: SLF001 - vLLM shows no other way to it
            for wrapper in manager.punica_wrapper_mapping.values():
                QuickMapping.speed_up(wrapper)


class WholeStepWorker(CardWorker):
    """One whose steps are whole graphs, replayed with what they were recorded for."""

    def load_model(self, **options: Any) -> None:
        """See ``Worker.load_model``."""
        super().load_model(**options)
        plan_as_recorded(self.model_runner.model_state)
