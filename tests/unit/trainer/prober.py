"""A prober that scores nothing."""

from collections.abc import Callable
from pathlib import Path

from services.registry.manifest import ProbePrompt


class FakeProber:
    """Scores nothing.

    Args:
        before: called before each probe.
        told: gets a word for all that it is told.
        loaded: it has the base model.
    """

    def __init__(
        self, before: Callable[[], None] = lambda: None, told: list[str] | None = None, *, loaded: bool = False
    ) -> None:
        self.told = told if told is not None else []
        self._before = before
        self._loaded = loaded

    def expect(self, _base_folder: Path) -> None:
        """See ``Prober``."""
        self.told.append("expect a probe")

    def load_ahead(self, *_: object) -> None:
        """See ``Prober``."""
        self.told.append("load ahead")

    def has_loaded(self) -> bool:
        """See ``Prober``."""
        return self._loaded

    def dismiss(self) -> None:
        """See ``Prober``."""
        self.told.append("dismiss the prober")

    def __call__(self, *_: object) -> list[ProbePrompt]:
        """See ``Prober``."""
        self.told.append("probe")
        self._before()
        return [ProbePrompt(token_ids=[1, 2], base_logprobs=[-1.0], adapter_logprobs=[-0.5])]
