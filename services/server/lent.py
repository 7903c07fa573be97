"""The port as the door lends it: served until the door is gone, and then as the next door lends it (docs/decisions/0096)."""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import structlog

from services.door.loan import Loan, NoDoor, PortTaken, borrow
from services.server.errors import StartRefused

log = structlog.get_logger(__name__)

_ASK_SECONDS = 0.5


class Listener(Protocol):
    """Serves one socket."""

    async def serve(self) -> None:
        """Serve until ``stop``, and then until its answers have ended."""

    def stop(self) -> None:
        """Let nobody in any more."""


class LentPort:
    """A listener on whatever the door lends.

    Args:
        path: where to ask.
        listener: makes one on a socket, which it takes.

    Attributes:
        unreachable: why no app reaches the port; None while it is lent.
        start_seconds: how long the last start took, which the door knows and is told; 0 where nobody knows.

    Raises:
        StartRefused: another server has it.
    """

    def __init__(self, path: Path, listener: Callable[[socket.socket], Listener]) -> None:
        self._path = path
        self._listener = listener
        self._stopping = asyncio.Event()
        self.unreachable: str | None = None
        self.start_seconds = 0
        self._loan: Loan | None = None
        try:
            self._loan = self._ask()
        except PortTaken as error:
            raise StartRefused(f"{error}; stop that one first, or set server.door") from error

    async def serve(self) -> None:
        """Serve until ``stop``, or until another server has the port.

        A door that is gone took its network along, and every client with it: what is still answered there ends by itself.
        """
        answering: set[asyncio.Task[None]] = set()  # on ports that are gone
        while (loan := await self._next()) is not None:
            listener = self._listener(loan.port)
            serving = asyncio.create_task(listener.serve())
            watching = [asyncio.create_task(loan.over()), asyncio.create_task(self._stopping.wait())]
            await asyncio.wait([serving, *watching], return_when=asyncio.FIRST_COMPLETED)
            for task in watching:
                task.cancel()
            await asyncio.gather(*watching, return_exceptions=True)
            listener.stop()
            try:
                if serving.done() or self._stopping.is_set():
                    self._stopping.set()
                    await serving  # first: a port that is shut under Granian keeps it from ending
            finally:
                self.close()
            answering = {task for task in answering if not task.done()} | {serving}
        await asyncio.gather(*answering)

    def stop(self) -> None:
        """Let nobody in any more."""
        self._stopping.set()

    def started(self, seconds: int) -> None:
        """Let this door know how long the start took, and those that come after it."""
        self.start_seconds = seconds
        if self._loan is not None:
            self._loan.tell(seconds)

    def close(self) -> None:
        """Give the port back."""
        if self._loan is not None:
            self._loan.give_back()
            self._loan = None

    async def _next(self) -> Loan | None:
        """The next loan; None where there is to be none."""
        while not self._stopping.is_set():
            if self._loan is not None:
                return self._loan
            try:
                self._loan = await asyncio.to_thread(self._ask)
            except PortTaken as error:
                log.critical("the port is lost", reason=str(error))
                break
            if self._loan is None:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), _ASK_SECONDS)
        self.close()
        return None

    def _ask(self) -> Loan | None:
        try:
            loan = borrow(self._path)
        except NoDoor as error:
            if self.unreachable is None:
                log.warning("no app reaches the server", reason=str(error))
            self.unreachable = f"no app reaches the server: {error}; `make up` starts the door"
            return None
        self.unreachable = None
        if self.start_seconds:
            loan.tell(self.start_seconds)
        self.start_seconds = self.start_seconds or loan.start_seconds
        log.info("the port is lent", door=str(self._path))
        return loan
