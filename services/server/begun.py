"""Awaitables begun outside of a task of their own, for what nearly always ends at once."""

import asyncio
from collections.abc import Awaitable, Generator
from typing import Any


def begun(work: Awaitable[None]) -> "asyncio.Future[None] | None":
    """Begin ``work`` now, wherever this is called on the event loop.

    Returns:
        None where it ended at once; else a task of what is left of it.
    """
    rest = first_step(work)
    return None if rest is None else asyncio.ensure_future(rest)


def first_step(work: Awaitable[None]) -> "Rest | None":
    """Do ``work`` as far as it goes without waiting, and return what is left of it, which is to be awaited; None for nothing."""
    running = work.__await__()
    try:
        waits_for = next(running)
    except StopIteration:
        return None
    return Rest(running, waits_for)


class Rest(Generator[Any, Any, None]):
    """What is left of a work that waits; what its waiter is told or thrown, the work is.

    Args:
        running: the work.
        waits_for: what it told the event loop.
    """

    def __init__(self, running: Generator[Any, Any, None], waits_for: Any) -> None:
        self._running = running
        self._told = [waits_for]  # until the waiter has passed it on

    def __await__(self) -> Generator[Any, Any, None]:
        return self

    def send(self, value: Any) -> Any:
        """See ``Generator.send``."""
        return self._told.pop() if self._told else self._running.send(value)

    def throw(self, *error: Any) -> Any:
        """See ``Generator.throw``."""
        return self._running.throw(*error)
