"""When to look at the registry: on the file system's notice, and every few seconds because not every volume gives one."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog
from watchfiles import awatch

from services.common.traces import trace_of
from services.server.engine.protocol import EngineDead

log = structlog.get_logger(__name__)

_DEBOUNCE_MILLISECONDS = 50


class RegistryWatch:
    """Calls ``look`` whenever the registry may have changed, until cancelled.

    Args:
        root: of the registry; it may appear later.
        poll_seconds: the longest time between two looks.
    """

    def __init__(self, root: Path, *, poll_seconds: float) -> None:
        self._root = root
        self._poll_seconds = poll_seconds
        self._changed = asyncio.Event()

    async def run(self, look: Callable[[], Awaitable[None]]) -> None:
        """Look for ever.

        Raises:
            EngineDead: from ``look``; any other error is logged and the next look tries again.
        """
        notices = asyncio.create_task(self._notices())
        try:
            while True:
                self._changed.clear()
                try:
                    await look()
                except EngineDead:
                    raise
                except Exception as error:  # noqa: BLE001 - whatever it was, what is loaded keeps serving
                    log.error("looking at the registry failed", trace=trace_of(error))  # noqa: TRY400 - no message, no locals
                try:
                    await asyncio.wait_for(self._changed.wait(), self._poll_seconds)
                except TimeoutError:
                    continue
        finally:
            notices.cancel()

    async def _notices(self) -> None:
        while True:
            try:
                async for _ in awatch(self._root, debounce=_DEBOUNCE_MILLISECONDS, step=_DEBOUNCE_MILLISECONDS // 2):
                    self._changed.set()
            except (OSError, RuntimeError):  # not there yet, unmounted, or out of watches: polling goes on
                await asyncio.sleep(self._poll_seconds)
