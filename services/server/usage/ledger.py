"""Usage as it happens: sums in memory, on the event loop; a thread adds them to the book once a second."""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from services.jobs.errors import DatabaseUnusable
from services.server.errors import QuotaUsed
from services.server.keys import Key
from services.server.usage.book import Book, Entry, Used

log = structlog.get_logger(__name__)

_DAY = 86_400
_EVERY_SECONDS = 1.0


class Ledger:
    """What keys have used, and which of them may go on today.

    Args:
        book: where sums are kept; today's decide about quotas at the start, memory from then on.
        clock: seconds since 1970.

    Raises:
        DatabaseUnusable: the book cannot be read.
    """

    def __init__(self, book: Book, clock: Callable[[], float] = time.time) -> None:
        self._book, self._clock = book, clock
        self._number = int(clock() // _DAY)
        self._day = _iso(self._number)
        self._today = book.tokens_on(self._day)
        self._unwritten: dict[tuple[str, str, str], Used] = {}
        self._failing = False

    def admit(self, key: Key) -> None:
        """Let a request in while the key has tokens left today; the last one may go over.

        Raises:
            QuotaUsed: it has none.
        """
        quota = key.limits.tokens_per_day
        if quota is None:
            return
        self._turn()
        if self._today.get(key.name, 0) >= quota:
            raise QuotaUsed(key.name, quota, (self._number + 1) * _DAY - self._clock())

    def add(self, key: str, model: str, prompt: int, completion: int) -> None:
        """Count a request that has ended: tokens of its prompts and answers."""
        self._turn()
        self._today[key] = self._today.get(key, 0) + prompt + completion
        entry = (self._day, key, model)
        used = self._unwritten.get(entry)
        if used is None:
            used = self._unwritten[entry] = Used()
        used.requests += 1
        used.prompt_tokens += prompt
        used.completion_tokens += completion

    async def keep_written(self, *, every_seconds: float = _EVERY_SECONDS) -> None:
        """Write what is new, now and then, for ever."""
        while True:
            await asyncio.sleep(every_seconds)
            await self.write()

    async def write(self) -> None:
        """Write what is new; where the disk fails it waits in memory for the next time."""
        if not (batch := self._unwritten):
            return
        self._unwritten = {}
        writing = asyncio.create_task(
            asyncio.to_thread(self._book.add, {Entry(*of): used for of, used in batch.items()})
        )
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            await asyncio.wait((writing,))  # it is written all the same, and must not be written twice
            self._settle(batch, writing)
            raise
        except DatabaseUnusable:
            pass
        self._settle(batch, writing)

    def _settle(self, batch: dict[tuple[str, str, str], Used], writing: "asyncio.Task[None]") -> None:
        error = writing.exception()
        if error is not None:
            for entry, used in batch.items():
                into = self._unwritten.setdefault(entry, Used())
                into.requests += used.requests
                into.prompt_tokens += used.prompt_tokens
                into.completion_tokens += used.completion_tokens
            if not self._failing:
                log.error("usage cannot be written; it is kept in memory", reason=str(error))
        self._failing = error is not None

    def _turn(self) -> None:
        """Begin another day where it is one."""
        number = int(self._clock() // _DAY)
        if number != self._number:
            self._number, self._day, self._today = number, _iso(number), {}


def _iso(number: int) -> str:
    return datetime.fromtimestamp(number * _DAY, UTC).date().isoformat()
