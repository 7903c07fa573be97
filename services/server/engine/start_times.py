"""How long each part of an engine's start takes, noted where it happens: in vLLM's worker, in the engine's process."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from services.common.parts import Parts


class NotingWorker:
    """Mixed into vLLM's worker, before it: the steps of a start in the order in which vLLM asks for them."""

    start_parts: Parts

    def init_device(self) -> None:
        """See ``WorkerBase.init_device``."""
        self.start_parts = Parts()
        with self._noted("device"):
            super().init_device()  # type: ignore[misc]  # vLLM's worker comes behind

    def load_model(self, **options: Any) -> None:
        """See ``WorkerBase.load_model``."""
        with self._noted("weights"):
            super().load_model(**options)  # type: ignore[misc]

    def determine_available_memory(self) -> Any:
        """See ``WorkerBase.determine_available_memory``; the first pass, which compiles."""
        with self._noted("first pass"):
            return super().determine_available_memory()  # type: ignore[misc]

    def initialize_from_config(self, *arguments: Any) -> None:
        """See ``WorkerBase.initialize_from_config``."""
        with self._noted("KV cache"):
            super().initialize_from_config(*arguments)  # type: ignore[misc]

    def compile_or_warm_up_model(self) -> Any:
        """See ``WorkerBase.compile_or_warm_up_model``."""
        with self._noted("warm-up and graphs"):
            return super().compile_or_warm_up_model()  # type: ignore[misc]

    def start_seconds(self) -> dict[str, float]:
        """Seconds of each part; asked for by the server's process."""
        return self.start_parts.end()

    @contextmanager
    def _noted(self, name: str) -> Iterator[None]:
        self.start_parts.begin(name)
        yield
        self.start_parts.end()
