"""A start that hangs, wherever it does: the process says so and ends with 3, whatever is left of the engine."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path

import httpx
import msgspec
import pytest
import structlog

from services.registry.layout import Registry
from services.registry.pointer import promote
from services.server.engine.protocol import Delta, Engine, EngineAdapter, Sampling, Take
from services.server.serve import EXIT_OK, EXIT_STUCK, serve
from tests.unit.server.fakes import FakeEngine
from tests.unit.server.harness import plan, publish_version, until
from tests.unit.server.process import free_port

ROOT = Path(__file__).parents[3]


class ColdEngine(FakeEngine):
    """Starts, and hangs at its first token."""

    async def generate(
        self,
        request_id: str,
        prompt: list[int],
        sampling: Sampling,
        adapter: EngineAdapter | None,
        take: Take | None = None,
    ) -> AsyncGenerator[list[Delta], None]:
        del request_id, prompt, sampling, adapter, take
        await asyncio.Event().wait()
        yield []


class FullEngine(FakeEngine):
    """Starts, and hangs at its first adapter."""

    async def load(self, adapter: EngineAdapter) -> None:
        del adapter
        await asyncio.Event().wait()


@pytest.mark.parametrize("engine", [ColdEngine, FullEngine], ids=["warm-up", "adapters"])
async def test_engine_that_hangs_before_it_is_ready_is_closed(tmp_path: Path, engine: Callable[[], FakeEngine]) -> None:
    """Warm-up and first adapters count as the start: exit code 3, the engine's processes ended, the setting named."""
    registry = Registry(tmp_path / "registry")
    publish_version(registry)
    promote(registry, "acme", 1)
    hanging = engine()
    with structlog.testing.capture_logs() as lines:
        code = await asyncio.wait_for(serve(plan(tmp_path, hanging, port=free_port(), start_seconds=0.3)), 5)
    assert code == EXIT_STUCK
    assert hanging.closed
    assert any("engine.start_seconds" in line.get("reason", "") for line in lines)


async def test_start_that_hangs_is_red_until_it_ends_and_is_cancelled(tmp_path: Path) -> None:
    """Requests get 503 with Retry-After meanwhile; what starts the engine is told to stop."""
    cancelled = asyncio.Event()

    async def hang() -> Engine:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        raise AssertionError

    made = plan(tmp_path, FakeEngine(), port=free_port(), start_seconds=0.5)
    task = asyncio.create_task(serve(msgspec.structs.replace(made, start_engine=hang)))
    await asyncio.sleep(0.1)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{made.settings.server.port}") as http:
        assert (await http.get("/livez")).status_code == 200
        asked = await http.get("/v1/models")
    assert (asked.status_code, int(asked.headers["retry-after"]) > 0) == (503, True)
    assert await asyncio.wait_for(task, 5) == EXIT_STUCK
    assert cancelled.is_set()


async def test_sigterm_while_the_start_hangs_is_obeyed(tmp_path: Path) -> None:
    """Told to end, it ends with 0 at once: its supervisor wanted that."""

    def hang() -> Awaitable[Engine]:
        return asyncio.get_running_loop().create_future()

    made = plan(tmp_path, FakeEngine(), port=free_port(), start_seconds=60.0)
    task = asyncio.create_task(serve(msgspec.structs.replace(made, start_engine=hang)))
    await asyncio.sleep(0.1)
    os.kill(os.getpid(), signal.SIGTERM)
    assert await asyncio.wait_for(task, 3) == EXIT_OK


async def test_thread_and_processes_that_hang_are_left_or_killed(tmp_path: Path) -> None:
    """A start that waits for its thread though it was cancelled, and a core and its worker that ignore SIGTERM: all are gone."""
    assert await _code_of_hanging(tmp_path, "thread") == EXIT_STUCK


async def test_code_that_holds_the_interpreters_lock_is_ended(tmp_path: Path) -> None:
    """Nothing in the process runs any more, its clock included: it and the engine's processes are killed from outside."""
    assert await _code_of_hanging(tmp_path, "lock") == -signal.SIGKILL


async def _code_of_hanging(root: Path, how: str) -> int:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.unit.server.hanging",
        str(root),
        str(free_port()),
        how,
        cwd=ROOT,
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        code = await asyncio.wait_for(process.wait(), 15)
    finally:
        if process.returncode is None:
            process.kill()
    core, worker = map(int, (root / "pids").read_text().split())
    await until(lambda: not alive(core) and not alive(worker))
    return code


def alive(pid: int) -> bool:
    """Whether a process runs; one that is dead and not yet reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except FileNotFoundError:
        return False
