"""The process that watches the event loop: what it ends, and what it leaves alone."""

import asyncio
import signal
import sys
from pathlib import Path

import pytest

from services.server.errors import StartRefused
from services.server.serve import serve_and_leave
from tests.e2e.serving import below
from tests.support.processes import lives, until
from tests.unit.server.fakes import FakeEngine
from tests.unit.server.harness import plan

ROOT = Path(__file__).parents[3]
WATCHED = """
import asyncio, os, signal, time, uvloop
from pathlib import Path
from services.server.pulse import watched

async def main():
    async with watched(1.0):
        await asyncio.sleep(1.5)
        (watcher,) = Path("/proc/self/task", str(os.getpid()), "children").read_text().split()
        {happens}
        await asyncio.sleep(0.5)
    assert not Path("/proc", watcher).exists()

uvloop.run(main())
"""
PAUSE = "os.kill(int(watcher), signal.SIGSTOP); time.sleep(1.5); os.kill(int(watcher), signal.SIGCONT); time.sleep(0.4)"

# Starts a process as vLLM starts its core: in a thread, with multiprocessing. It starts another, and neither looks whether the server lives.
SERVER = """
import asyncio, multiprocessing, subprocess, uvloop
from services.server.pulse import watched

async def main():
    core = multiprocessing.get_context("spawn").Process(target=subprocess.run, args=(["sleep", "60"],))
    async with watched(20.0):
        await asyncio.to_thread(core.start)
        await asyncio.sleep({seconds})
    assert core.is_alive()
    core.kill()

uvloop.run(main())
"""


async def _code(happens: str) -> int:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WATCHED.format(happens=happens), cwd=ROOT, stderr=asyncio.subprocess.PIPE
    )
    _, said = await asyncio.wait_for(process.communicate(), 20)
    assert (b"engine.stuck_seconds" in said) == (process.returncode == -signal.SIGKILL), said
    return process.returncode or 0


async def test_only_a_loop_that_stands_still_for_long_is_ended() -> None:
    """Killed, with a line that names the setting; one that stands for a while is left alone, and the watcher ends with it."""
    assert await _code("time.sleep(60)") == -signal.SIGKILL
    assert await _code("time.sleep(0.4)") == 0


async def test_pause_of_the_whole_container_is_no_standing_still() -> None:
    """The watcher stood still, too: what it did not hear meanwhile does not count."""
    assert await _code(PAUSE) == 0


async def test_a_start_that_is_refused_ends_at_once(tmp_path: Path) -> None:
    """Before the first beat: nobody waits for the watcher, which would wait for a beat."""
    refused = plan(tmp_path, FakeEngine(), host="0.0.0.0", stuck_seconds=600.0)  # noqa: S104 - no key was made
    with pytest.raises(StartRefused, match="no API key was made"):
        await asyncio.wait_for(serve_and_leave(refused), 20)


async def test_the_engine_does_not_outlive_a_server_that_is_killed() -> None:
    """Neither its core nor what that started; who sees to it is gone, too."""
    server = await asyncio.create_subprocess_exec(sys.executable, "-c", SERVER.format(seconds=60), cwd=ROOT)
    await asyncio.to_thread(until, lambda: b"sleep" in map(_name, below(server.pid)))
    await asyncio.sleep(1.5)  # a beat
    family = below(server.pid)
    assert len(family) >= 3
    server.kill()
    await server.wait()
    await asyncio.to_thread(until, lambda: not any(map(lives, family)), 10)


async def test_the_engine_is_left_to_a_server_that_ends() -> None:
    """Which ends it itself, and hears of it."""
    server = await asyncio.create_subprocess_exec(sys.executable, "-c", SERVER.format(seconds=2), cwd=ROOT)
    assert await asyncio.wait_for(server.wait(), 20) == 0


def _name(process: int) -> bytes:
    try:
        return Path(f"/proc/{process}/comm").read_bytes().strip()
    except FileNotFoundError:
        return b""
