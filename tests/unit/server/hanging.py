"""A whole process whose engine hangs while it starts, as vLLM may: in a thread that nothing ends, with processes that ignore SIGTERM.

The thread waits, or holds the interpreter's lock; its arguments are the data root, a port, and which of the two.
"""

import asyncio
import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Never

import msgspec
import uvloop

from services.server.serve import serve_and_leave
from tests.unit.server.fakes import FakeEngine
from tests.unit.server.harness import plan

FOR_EVER = 60


def worker() -> None:
    """Lives on whatever it is told."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(FOR_EVER)


def core(pids: Path) -> None:
    """As the worker that it starts; leaves the numbers of both."""
    process = multiprocessing.get_context("fork").Process(target=worker)
    process.start()
    pids.write_text(f"{os.getpid()} {process.pid}")
    worker()


async def start(pids: Path, work: Callable[[], object]) -> Never:
    """Waits for its thread even when it is cancelled."""
    multiprocessing.get_context("fork").Process(target=core, args=(pids,)).start()
    waiting = asyncio.create_task(asyncio.to_thread(work))
    while True:
        try:
            await asyncio.shield(waiting)
        except asyncio.CancelledError:
            continue


def hold_the_lock(pids: Path) -> None:
    """As a library's code that never gives it back: no other thread runs from here on."""
    while not pids.exists():
        time.sleep(0.01)
    ctypes.PyDLL(None).sleep(FOR_EVER)


if __name__ == "__main__":
    root = Path(sys.argv[1])
    how: dict[str, tuple[Callable[[], object], dict[str, Any]]] = {
        "thread": (threading.Event().wait, {"start_seconds": 0.3}),
        "lock": (partial(hold_the_lock, root / "pids"), {"stuck_seconds": 1.0}),
    }
    work, settings = how[sys.argv[3]]
    made = plan(root, FakeEngine(), port=int(sys.argv[2]), **settings)
    sys.exit(
        uvloop.run(serve_and_leave(msgspec.structs.replace(made, start_engine=partial(start, root / "pids", work))))
    )
