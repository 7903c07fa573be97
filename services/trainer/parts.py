"""Where the wall time of a retrain goes: its parts, one after another without a gap."""

import time
from collections.abc import Callable

from services.trainer.training.job import Event, Finished, Interrupted, Loading, Step

UPDATES = "updates"


class Parts:
    """Takes the time of each part; the next one begins where one ends.

    What another process does meanwhile is no part of its own: a part is what the retrain waits for.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Read seconds from ``clock``."""
        self._clock = clock
        self._name: str | None = None
        self._since = 0.0
        self._seconds: dict[str, float] = {}

    def begin(self, name: str) -> None:
        """End the part that is under way and begin another; one that was there before is added to."""
        self.end()
        self._name = name

    def end(self) -> dict[str, float]:
        """End the part that is under way.

        Returns:
            the wall time of each part, in order.
        """
        now = self._clock()
        if self._name is not None:
            self._seconds[self._name] = self._seconds.get(self._name, 0.0) + now - self._since
        self._name, self._since = None, now
        return {name: round(seconds, 3) for name, seconds in self._seconds.items()}

    def take(self, event: Event) -> None:
        """Begin the part of the training that an event tells of.

        The first update is a part of its own, because kernels are compiled and recorded in it.
        """
        if isinstance(event, Loading):
            self.begin(event.what)
        elif isinstance(event, Step):
            self.begin(UPDATES)
        elif isinstance(event, Finished | Interrupted):
            self.begin("the worker's end")
