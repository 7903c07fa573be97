"""A token bucket: a minute's worth that refills evenly."""

import math

from services.server.admission import Allowance

MINUTE = 60.0


class Bucket:
    """Full at first. It may owe: what turns out to have cost more than was taken is made up for before more is let out.

    Args:
        limit: per minute, and the most that it holds.
        now: seconds on a clock that never goes back, as everywhere here.
    """

    __slots__ = ("_at", "_level", "limit")

    def __init__(self, limit: int, now: float) -> None:
        self.limit = limit
        self._level = float(limit)
        self._at = now

    def wait(self, amount: float, now: float) -> float:
        """Seconds until so much is there; 0 where it is, infinity where it never will be."""
        lacking = amount - self._filled(now)
        if lacking <= 0:
            return 0.0
        return lacking * MINUTE / self.limit if amount <= self.limit else math.inf

    def take(self, amount: float, now: float) -> None:
        """Take so much out, there or not; a negative amount is given back."""
        self._level = self._filled(now) - amount

    def resize(self, limit: int, now: float) -> None:
        """Another limit; what is used of the old one is used of the new one, too."""
        self._level = self._filled(now) + limit - self.limit
        self.limit = limit

    def allowance(self, now: float) -> Allowance:
        """What is left, and when all of it will be there again."""
        level = self._filled(now)
        lacking = (self.limit - level) * MINUTE / self.limit
        return Allowance(self.limit, max(0, math.floor(level)), math.ceil(lacking))

    def _filled(self, now: float) -> float:
        self._level = min(float(self.limit), self._level + (now - self._at) * self.limit / MINUTE)
        self._at = now
        return self._level
