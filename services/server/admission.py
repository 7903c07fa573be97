"""How many answers may run or wait at once. Counted before any work on a request, so that a burst costs nothing."""

import msgspec

from services.server.errors import Overloaded

RETRY_SECONDS = 1


class Allowance(msgspec.Struct, frozen=True):
    """What a client is told about its limit, in OpenAI's terms.

    Attributes:
        limit: answers that may run or wait at once.
        remaining: how many more would be let in now.
        reset_seconds: when to look again; 0 where nothing is used up. Places are given back by answers that end, not by a
            clock, so that this is an advice.
    """

    limit: int
    remaining: int
    reset_seconds: int


class Admission:
    """Counts answers in flight (``n`` of a request counts ``n``).

    Args:
        capacity: answers that run and wait together.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.in_flight = 0

    def take(self, answers: int) -> None:
        """Let a request in.

        Raises:
            Overloaded: it does not fit; nothing was taken.
        """
        if self.in_flight + answers > self.capacity:
            raise Overloaded(
                f"The server is busy: {self.in_flight} answers are running or waiting, at most {self.capacity} may.",
                retry_after=RETRY_SECONDS,
            )
        self.in_flight += answers

    def give(self, answers: int) -> None:
        """A request that was let in has ended."""
        self.in_flight -= answers

    def allowance(self) -> Allowance:
        """What is left now."""
        remaining = max(0, self.capacity - self.in_flight)
        return Allowance(self.capacity, remaining, RETRY_SECONDS if self.in_flight else 0)
