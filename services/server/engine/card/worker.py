"""vLLM's worker on a card; vLLM loads it by its name, in the engine's process."""

from typing import Any

from vllm.v1.worker.gpu_worker import Worker

from services.server.engine.card.whole import plan_as_recorded
from services.server.engine.start_times import NotingWorker


class CardWorker(NotingWorker, Worker):  # type: ignore[misc]  # vLLM's types are not followed
    """A worker on any card."""


class WholeStepWorker(CardWorker):
    """One whose steps are whole graphs, replayed with what they were recorded for."""

    def load_model(self, **options: Any) -> None:
        """See ``Worker.load_model``."""
        super().load_model(**options)
        plan_as_recorded(self.model_runner.model_state)
