"""An engine that hangs, as a whole process around a fake engine sees it, and silence that is none of the engine's."""

import asyncio
import time
from pathlib import Path

import httpx
import openai
import pytest

from services.server.engine.protocol import EngineError, EngineStuck
from services.server.engine.watchdog import watch_engine
from services.server.serve import EXIT_STUCK
from tests.unit.server.fakes import BASE, FakeEngine
from tests.unit.server.harness import until
from tests.unit.server.process import MESSAGES, Process


async def test_hanging_engine_ends_the_process(tmp_path: Path) -> None:
    """Streams end in an error event and others in 503 with Retry-After, long before the drain is over; the exit code names it."""
    async with Process(tmp_path, stuck_seconds=0.4, drain_seconds=60.0) as process:
        process.engine.pause_at = 2
        running = asyncio.create_task(process.stream())
        await until(lambda: not process.engine.gate.is_set())
        plain = asyncio.create_task(process.client.chat.completions.create(model=BASE, messages=MESSAGES))
        await until(lambda: len(process.engine.begun) == 3)  # the warm-up was one
        process.engine.turning.clear()
        with pytest.raises(openai.APIError, match="engine failed"):
            await running
        with pytest.raises(openai.InternalServerError, match="engine failed") as caught:
            await plain
        assert caught.value.status_code == 503
        assert int(caught.value.response.headers["retry-after"]) > 0
        assert await asyncio.wait_for(process.task, 5) == EXIT_STUCK
        assert process.engine.closed


async def test_readiness_is_red_while_a_hanging_engine_is_ended(tmp_path: Path) -> None:
    """However long it takes to end: nobody is sent there, who asks gets 503, and the reason is there to read."""
    closing, ended = asyncio.Event(), asyncio.Event()

    class Slow(FakeEngine):
        async def close(self) -> None:
            closing.set()
            await ended.wait()

    async with Process(tmp_path, Slow(), stuck_seconds=0.4) as process, httpx.AsyncClient() as http:
        process.engine.turning.clear()
        await closing.wait()
        ready = await http.get(f"{process.url}/readyz")
        asked = await http.post(f"{process.url}/v1/chat/completions", json={"model": BASE, "messages": MESSAGES})
        ended.set()
        assert await asyncio.wait_for(process.task, 5) == EXIT_STUCK
    assert (ready.status_code, asked.status_code) == (503, 503)
    assert "hangs" in ready.json()["engine"]
    assert int(asked.headers["retry-after"]) > 0


async def test_engine_that_answers_late_but_in_time_is_left_alone() -> None:
    """A long step is no hanging: silence counts from the last sign of life."""
    engine = FakeEngine()
    watching = asyncio.create_task(watch_engine(engine, stuck_seconds=0.5))
    for _ in range(4):
        engine.turning.clear()
        await asyncio.sleep(0.25)
        engine.turning.set()
        await asyncio.sleep(0.1)
    assert not watching.done()
    engine.turning.clear()
    with pytest.raises(EngineStuck, match=r"engine\.stuck_seconds"):
        await watching


async def test_pause_of_the_whole_container_is_no_hanging() -> None:
    """Where nothing ran, the engine could not answer either: time that passed while the server stood still does not count."""
    engine = FakeEngine()
    engine.turning.clear()
    watching = asyncio.create_task(watch_engine(engine, stuck_seconds=0.5))
    await asyncio.sleep(0.1)
    time.sleep(1.0)  # noqa: ASYNC251 - the whole process stands still
    engine.turning.set()
    await asyncio.sleep(0.3)
    assert not watching.done()
    watching.cancel()


async def test_sign_of_life_that_fails_is_told() -> None:
    """An engine that answers with an error is not waited for."""

    class Failing(FakeEngine):
        async def beat(self) -> None:
            raise EngineError("the engine failed on this request: TypeError")

    with pytest.raises(EngineError, match="TypeError"):
        await watch_engine(Failing(), stuck_seconds=0.5)
