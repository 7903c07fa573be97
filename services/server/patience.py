"""Times that run out, all as long: one timer for all that wait, in place of one for each."""

import asyncio
from collections.abc import Callable
from types import TracebackType


class Patience:
    """For one event loop. Who begins later ends later, so the first of those that wait is the next that is due.

    Args:
        seconds: that each may take.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._waiting: dict[Callable[[], None], float] = {}  # in the order of when they are due
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, overdue: Callable[[], None]) -> None:
        """Have ``overdue`` called once its time is over, unless ``end`` comes before."""
        loop = asyncio.get_running_loop()
        due = self._waiting[overdue] = loop.time() + self._seconds
        if self._timer is None:
            self._timer = loop.call_at(due, self._ring)

    def end(self, overdue: Callable[[], None]) -> None:
        """It is not to be called any more."""
        self._waiting.pop(overdue, None)

    def _ring(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        now = loop.time()
        while self._waiting:
            overdue, due = next(iter(self._waiting.items()))
            if due > now:
                self._timer = loop.call_at(due, self._ring)
                return
            del self._waiting[overdue]
            overdue()


class Within:
    """``asyncio.timeout`` by a ``Patience``: what runs in it is cancelled when the time is over, and ``TimeoutError`` raised in its place.

    Args:
        patience: how long it may take.
    """

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._expired = False

    def __enter__(self) -> None:
        self._task: asyncio.Task[object] = asyncio.current_task()  # type: ignore[assignment]  # a coroutine runs in one
        self._cancelling = self._task.cancelling()
        self._patience.begin(self._overdue)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._patience.end(self._overdue)
        # As asyncio's own: another's cancellation, at the same time, goes on.
        if self._expired and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def _overdue(self) -> None:
        self._expired = True
        self._task.cancel()
