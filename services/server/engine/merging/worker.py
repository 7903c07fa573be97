"""What vLLM's worker can do besides: take merged weights. vLLM adds it to its worker by its name, in the engine's process."""

from pathlib import Path
from typing import Any

from services.server.engine.merging.weights import merged_weights


class MergingWorker:
    """Mixed into vLLM's worker."""

    model_runner: Any

    def merge_adapter(self, base: str, adapter: str) -> None:
        """Put the base's weights with the adapter's in place of those in the engine; no request may run meanwhile."""
        self.model_runner.reload_weights(weights_iterator=merged_weights(Path(base), Path(adapter)))
