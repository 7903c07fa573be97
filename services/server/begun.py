"""Awaitables begun outside of a task of their own, for what nearly always ends at once."""

import asyncio
from collections.abc import Awaitable, Generator
from typing import Any


def begun(work: Awaitable[None]) -> "asyncio.Future[None] | None":
    """Begin ``work`` now, wherever this is called on the event loop.

    Returns:
        None where it ended at once; else a task of what is left of it.
    """
    running = work.__await__()
    try:
        waits_for = next(running)
    except StopIteration:
        return None
    return asyncio.ensure_future(_Rest(running, waits_for))


class _Rest:
    def __init__(self, running: Generator[Any, Any, None], waits_for: Any) -> None:
        self._running = running
        self._waits_for = waits_for

    def __await__(self) -> Generator[Any, Any, None]:
        yield self._waits_for  # as a task would have been given it
        yield from self._running
