"""Whether the engine lives, and whether it still turns: one that hangs neither dies nor answers, and only its silence tells."""

import asyncio

from services.server.engine.protocol import Engine, EngineDead, EngineStuck

_LOOK_SECONDS = 0.25
_BEATS = 10


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
