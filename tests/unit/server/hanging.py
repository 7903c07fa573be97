"""A whole process whose engine hangs while it starts, as vLLM may: in a thread that nothing ends, with processes that ignore SIGTERM."""

import asyncio
import multiprocessing
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Never

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


async def start() -> Never:
    """Waits for its thread even when it is cancelled."""
    multiprocessing.get_context("fork").Process(target=core, args=(Path(sys.argv[1]) / "pids",)).start()
    waiting = asyncio.create_task(asyncio.to_thread(threading.Event().wait))
    while True:
        try:
            await asyncio.shield(waiting)
        except asyncio.CancelledError:
            continue


if __name__ == "__main__":
    made = plan(Path(sys.argv[1]), FakeEngine(), port=int(sys.argv[2]), start_seconds=0.3)
    sys.exit(uvloop.run(serve_and_leave(msgspec.structs.replace(made, start_engine=start))))
