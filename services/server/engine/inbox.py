"""What one request gained in the engine and nobody read yet."""

import asyncio
from typing import Any

from services.server.engine.protocol import Delta, Take


class Inbox:
    """Filled by the engine's steps, emptied by one reader, bounded by the request's ``max_tokens``.

    Args:
        request_id: the engine's own name of the request.
        answers: ``n``; the request has ended when each has a finish reason.
        take: see ``Engine.generate``.
    """

    def __init__(self, request_id: str, answers: int, take: Take | None = None) -> None:
        self.request_id = request_id
        self._running = answers
        self._take = take
        self._deltas: list[Delta] = []
        self._error: Exception | None = None
        self._reader: asyncio.Future[None] | None = None  # pending while the reader waits: then the inbox is empty

    @property
    def ended(self) -> bool:
        """Whether the engine is through with the request, and everything was taken."""
        return self._running == 0 and not self._deltas

    def add(self, delta: Delta) -> None:
        """Take in what an answer gained."""
        if delta.finish_reason is not None:
            self._running -= 1
        elif self._take is not None and self._reader is not None and not self._reader.done():
            try:
                if self._take(delta):
                    return
            except Exception as error:  # noqa: BLE001 - it is this request's alone, the step is everyone's
                self.put(error)
                return
        self._deltas.append(delta)
        self._wake()

    def put(self, error: Any) -> None:
        """Take in what vLLM tells a request besides: that the engine died, or that it was aborted, which nobody waits for."""
        if isinstance(error, Exception):
            self._error = error
            self._wake()

    async def read(self) -> list[Delta]:
        """Everything gained since; waits for the first of it.

        Raises:
            Exception: why the engine ended, once what came before is read.
        """
        if not self._deltas and self._error is None:
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        if not self._deltas and self._error is not None:
            raise self._error
        deltas, self._deltas = self._deltas, []
        return deltas

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)
