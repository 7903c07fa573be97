"""Whether the engine starts, lives and still turns: one that hangs neither dies nor answers, and only its silence tells."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from services.server.engine.protocol import Engine, EngineDead, EngineStuck

_LOOK_SECONDS = 0.25
_BEATS = 10
_ABANDON_SECONDS = 20.0  # the engine's processes have half of it before they are killed

Started = TypeVar("Started")


async def start_within(start: Coroutine[Any, Any, Started], *, start_seconds: float) -> Started:
    """Run the whole start, and abandon it when its time is up or this is cancelled; one that does not end even so is left behind.

    Raises:
        EngineStuck: it took longer than ``start_seconds``.
    """
    starting = asyncio.create_task(start)
    in_time = False
    try:
        in_time = bool((await asyncio.wait((starting,), timeout=start_seconds))[0])
    finally:
        if not in_time:
            starting.cancel()
            await asyncio.wait((starting,), timeout=min(_ABANDON_SECONDS, start_seconds))
    if not in_time:
        raise EngineStuck(
            f"the start hangs: the server was not ready after {start_seconds:g} s (engine.start_seconds); "
            "raise it if this machine only needs longer"
        )
    return starting.result()


async def watch_engine(engine: Engine, *, stuck_seconds: float) -> None:
    """Look for ever, and have the engine say that it turns ten times in ``stuck_seconds``.

    Silence is counted by looks, not by a clock: a machine that was asleep, or a container that was paused, was no hanging engine.

    Raises:
        EngineDead: its process is gone.
        EngineStuck: it was silent for ``stuck_seconds``.
    """
    look = min(_LOOK_SECONDS, stuck_seconds / _BEATS)
    silent = 0.0
    beat = asyncio.create_task(engine.beat())
    try:
        while (failure := engine.failure()) is None:
            await asyncio.sleep(look)
            silent += look
            if not beat.done():
                if silent >= stuck_seconds:
                    raise EngineStuck(
                        f"the engine hangs: it said nothing for {stuck_seconds:g} s (engine.stuck_seconds)"
                    )
            elif silent >= stuck_seconds / _BEATS:
                beat.result()
                beat, silent = asyncio.create_task(engine.beat()), 0.0
    finally:
        beat.cancel()
        await asyncio.gather(beat, return_exceptions=True)
    raise EngineDead(failure)
