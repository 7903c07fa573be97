"""Whether the server's event loop turns, seen from a process of its own: who holds the interpreter's lock stops every thread in here.

``engine.watchdog`` is part of that event loop, and waits with it. The process that watches hears a beat at least ten times in the
allowed time. As there, silence is counted by looks, so that a container that was paused is not taken for one that hangs.

A beat names the engine's processes. vLLM's core does not notice that its server was killed, and would keep the card's memory: outside of a
container, which ends with its server, nobody else ends it.
"""

import asyncio
import contextlib
import multiprocessing
import os
import select
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.server.engine.processes import kill_tree

_BEATS = 10
_LOOK_SECONDS = 1.0
_LEAVES = b"leaves"


@asynccontextmanager
async def watched(seconds: float) -> AsyncIterator[None]:
    """Have this process and all below it killed where its event loop stands still for so long, and the engine where it is killed itself."""
    watcher = await asyncio.create_subprocess_exec(sys.executable, "-m", __name__, str(seconds), stdin=PIPE)
    assert watcher.stdin is not None  # noqa: S101 - PIPE
    beating = asyncio.create_task(_beat(watcher.stdin, min(_LOOK_SECONDS, seconds / _BEATS)))
    try:
        yield
    finally:
        beating.cancel()
        await asyncio.gather(beating, return_exceptions=True)
        watcher.stdin.close()  # here: a server that is refused at once ends before the first beat
        await watcher.wait()


async def _beat(watcher: asyncio.StreamWriter, pause: float) -> None:
    try:
        while True:
            engine = [b"%d" % child.pid for child in multiprocessing.active_children() if child.pid is not None]
            watcher.write(b" ".join(engine) + b"\n")
            await asyncio.sleep(pause)
    finally:
        watcher.write(_LEAVES + b"\n")


def main(seconds: float) -> None:
    """Listen until the beats' pipe is closed, or for ``seconds`` in vain; end what is left."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's; the server, which has it too, closes the pipe
    look = min(_LOOK_SECONDS, seconds / _BEATS)
    server, silent = os.getppid(), 0.0
    beat, rest = b"", b""
    while silent < seconds:
        if not select.select([0], [], [], look)[0]:
            silent += look
        elif heard := os.read(0, 4096):
            silent = 0.0
            *beats, rest = (rest + heard).split(b"\n")
            beat = beats[-1] if beats else beat
        else:
            if beat != _LEAVES:
                for process in beat.split():
                    kill_tree(int(process))
            return
    with contextlib.suppress(OSError):
        sys.stderr.write(
            f"the server hangs: its event loop stood still for {seconds:g} s (engine.stuck_seconds); killed\n"
        )
    kill_tree(server)


if __name__ == "__main__":
    main(float(sys.argv[1]))
