"""Where wall time goes: parts, one after another without a gap."""

import os
import time
from collections.abc import Callable
from pathlib import Path

_START_TICKS = 19  # of proc(5)'s fields behind the name


def process_seconds() -> float:
    """Seconds since this process began."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    return time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[_START_TICKS]) / os.sysconf("SC_CLK_TCK")


class Parts:
    """Takes the time of each part; the next one begins where one ends.

    What another process does meanwhile is no part of its own: a part is what is waited for.
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

    def add(self, name: str, seconds: float) -> None:
        """A part that was over before this one."""
        self._seconds[name] = self._seconds.get(name, 0.0) + seconds

    def divide(self, parts: dict[str, float]) -> None:
        """Say what the part under way was so far, in seconds; what is left of it keeps its name."""
        if self._name is not None:
            for name, seconds in parts.items():
                self.add(name, seconds)
            self._since += sum(parts.values())

    def end(self) -> dict[str, float]:
        """End the part that is under way.

        Returns:
            the wall time of each part, in order.
        """
        now = self._clock()
        if self._name is not None:
            self.add(self._name, now - self._since)
        self._name, self._since = None, now
        return {name: round(seconds, 3) for name, seconds in self._seconds.items()}
