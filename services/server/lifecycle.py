"""The life of the process as requests see it: starting, serving, draining, failed."""

import asyncio
import contextlib
import math
import time
from enum import StrEnum
from typing import Protocol

from services.common.retrying import until_ready
from services.server.errors import ServerError, Unavailable

INTERRUPT_SECONDS = 5.0


class Phase(StrEnum):
    """Where the process is in its life."""

    STARTING = "starting"
    SERVING = "serving"
    DRAINING = "draining"
    FAILED = "failed"


class Running(Protocol):
    """A request that is being answered."""

    def interrupt(self, reason: ServerError) -> None:
        """End it with an error."""


_REASONS = {
    Phase.STARTING: "The server is starting: the model is not loaded yet.",
    Phase.DRAINING: "The server is stopping.",
    Phase.FAILED: "The engine failed; the server is restarting.",
}


class Lifecycle:
    """The phase, and the requests that a change of it concerns.

    Attributes:
        failure: why the engine does not run, once it failed.
        start_seconds: how long the last start here took, this process's own once it is over; 0 where nobody knows.
    """

    def __init__(self) -> None:
        self.phase = Phase.STARTING
        self.failure: str | None = None
        self.start_seconds = 0
        self._began = time.monotonic()
        self._running: set[Running] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def ending(self) -> bool:
        """Whether this process answers no more requests."""
        return self.phase in {Phase.DRAINING, Phase.FAILED}

    def started(self) -> None:
        """Requests are answered from here on."""
        self.phase = Phase.SERVING
        self.start_seconds = math.ceil(time.monotonic() - self._began)

    def retry_seconds(self) -> int:
        """After how long a request that is not answered now will be: by this process where it starts, else by the next."""
        elapsed = time.monotonic() - self._began if self.phase is Phase.STARTING else 0.0
        return until_ready(self.start_seconds, elapsed)

    def unavailable(self) -> Unavailable:
        """The error that answers requests in any phase but SERVING."""
        reason = _REASONS.get(self.phase, "The server is not available.")
        return Unavailable(reason, retry_after=self.retry_seconds())

    def require_serving(self) -> None:
        """Raise ``Unavailable`` unless requests are served now."""
        if self.phase is not Phase.SERVING:
            raise self.unavailable()

    def enter(self, request: Running) -> None:
        """A request begins."""
        self._running.add(request)
        self._idle.clear()

    def leave(self, request: Running) -> None:
        """A request has ended."""
        self._running.discard(request)
        if not self._running:
            self._idle.set()

    async def drain(self, seconds: float) -> int:
        """Refuse new requests and wait for the running ones; interrupt what is left after ``seconds``.

        Returns:
            how many had to be interrupted.
        """
        if self.phase is not Phase.FAILED:
            self.phase = Phase.DRAINING
        try:
            await asyncio.wait_for(self._idle.wait(), seconds)
        except TimeoutError:
            interrupted = len(self._running)
            for request in list(self._running):
                request.interrupt(self.unavailable())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._idle.wait(), INTERRUPT_SECONDS)
            return interrupted
        return 0
