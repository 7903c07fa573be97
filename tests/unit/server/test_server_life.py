"""A whole process's life on real sockets with the official client: start, drain, engine death, exit codes."""

import asyncio
import os
import signal
import socket
from pathlib import Path

import httpx
import msgspec
import openai
import pytest

from services.common.retrying import UNKNOWN_START_SECONDS
from services.common.settings import load
from services.registry.layout import Registry
from services.registry.pointer import promote
from services.server.engine.protocol import Engine, EngineError
from services.server.errors import StartRefused
from services.server.serve import serve
from services.server.settings import ServerSettings
from services.server.status import NoAnswer, ask
from tests.unit.server.fakes import BASE, FakeEngine, roomy_engine
from tests.unit.server.harness import plan, publish_version, until
from tests.unit.server.process import MESSAGES, Process, free_port

ROOT = Path(__file__).parents[3]


async def test_sigterm_drains(tmp_path: Path) -> None:
    """A running answer finishes, a new one gets 503 with Retry-After meanwhile, then the engine ends and the code is 0."""
    async with Process(tmp_path) as process:
        process.engine.pause_at = 2
        running = asyncio.create_task(process.stream())
        await until(lambda: not process.engine.gate.is_set())
        os.kill(os.getpid(), signal.SIGTERM)
        async with httpx.AsyncClient() as http:
            await asyncio.sleep(0.05)
            refused = await http.post(f"{process.url}/v1/chat/completions", json={"model": BASE, "messages": MESSAGES})
            assert refused.status_code == 503
            assert (
                0 < int(refused.headers["retry-after"]) < UNKNOWN_START_SECONDS
            )  # by its own start, which was shorter
            assert refused.headers["connection"] == "close"  # no next request crosses its end
            assert (await http.get(f"{process.url}/readyz")).status_code == 503
            assert (await http.get(f"{process.url}/livez")).status_code == 200
        process.engine.pause_at = None
        process.engine.gate.set()
        assert await running == "I am tiny ."
        assert await asyncio.wait_for(process.task, 5) == 0
        assert process.engine.closed
        assert process.engine.aborted == []


@pytest.mark.parametrize("in_time", [True, False])
async def test_request_without_a_token_yet_is_drained_too(tmp_path: Path, *, in_time: bool) -> None:
    """One that is still being tokenized when the signal comes is answered, or told, like any other."""
    async with Process(tmp_path, roomy_engine(), drain_seconds=2.0 if in_time else 0.1) as process:
        process.engine.fake_tokenizer.gate.clear()
        running = asyncio.create_task(process.stream([{"role": "user", "content": "long " * 500}]))
        await until(lambda: process.engine.fake_tokenizer.encoded)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0.4)
        process.engine.fake_tokenizer.gate.set()
        if in_time:
            assert await running == "I am tiny ."
        else:
            with pytest.raises(openai.InternalServerError, match="stopping"):
                await running
        assert await asyncio.wait_for(process.task, 5) == 0


async def test_answer_beyond_the_drain_is_interrupted(tmp_path: Path) -> None:
    """What is still running after ``drain_seconds`` ends in an error event, and the process ends in time."""
    async with Process(tmp_path, drain_seconds=0.2) as process:
        process.engine.pause_at = 2
        running = asyncio.create_task(process.stream())
        plain = asyncio.create_task(process.client.chat.completions.create(model=BASE, messages=MESSAGES))
        await until(lambda: len(process.engine.begun) == 3)  # the warm-up was one
        os.kill(os.getpid(), signal.SIGTERM)
        assert await asyncio.wait_for(process.task, 5) == 0
        with pytest.raises(openai.APIError, match="stopping"):
            await running
        with pytest.raises(openai.InternalServerError, match="stopping") as caught:
            await plain
        assert caught.value.status_code == 503
        assert len(process.engine.aborted) == 2


async def test_engine_death_ends_the_process(tmp_path: Path) -> None:
    """Streams end in an error event, the exit code is not 0, the engine is closed."""
    async with Process(tmp_path) as process:
        process.engine.pause_at = 2
        running = asyncio.create_task(process.stream())
        await until(lambda: not process.engine.gate.is_set())
        process.engine.dead = "killed"
        with pytest.raises(openai.APIError, match="engine failed"):
            await running
        assert await asyncio.wait_for(process.task, 5) == 1
        assert process.engine.closed


async def test_engine_that_does_not_start_ends_the_process(tmp_path: Path) -> None:
    """No engine, no server: exit code 1, after being alive but not ready."""

    async def fail() -> Engine:
        await asyncio.sleep(0.2)
        raise EngineError("out of memory")

    made = plan(tmp_path, FakeEngine(), port=free_port())
    task = asyncio.create_task(serve(msgspec.structs.replace(made, start_engine=fail)))
    async with httpx.AsyncClient() as http:
        url = f"http://127.0.0.1:{made.settings.server.port}"
        await asyncio.sleep(0.1)
        assert (await http.get(f"{url}/livez")).status_code == 200
        assert (await http.get(f"{url}/readyz")).json()["status"] == "starting"
        assert (await http.get(f"{url}/v1/models")).status_code == 503
    assert await asyncio.wait_for(task, 5) == 1


async def test_taken_port_refuses_to_start(tmp_path: Path) -> None:
    """Another server on the port: refused with the address, before an engine is started."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        engine = FakeEngine()
        with pytest.raises(StartRefused, match="already in use"):
            await serve(plan(tmp_path, engine, port=taken.getsockname()[1]))
    assert engine.begun == []


async def test_pointer_on_disk_moves_requests_by_itself(tmp_path: Path) -> None:
    """From promote on disk to the new version's answer in well under a second, with every request answered."""
    registry = Registry(tmp_path / "registry")
    publish_version(registry)
    promote(registry, "acme", 1)
    async with Process(tmp_path) as process:
        answers: list[str] = []

        async def ask_for_ever() -> None:
            while True:
                answer = await process.client.chat.completions.create(model="acme", messages=MESSAGES)
                assert answer.choices[0].message.content == f"I am {answer.model} ."
                answers.append(answer.model)

        asking = asyncio.create_task(ask_for_ever())
        await until(lambda: "acme@1" in answers)
        publish_version(registry)
        promote(registry, "acme", 2)
        await until(lambda: answers[-1] == "acme@2")
        await asyncio.sleep(0.1)
        assert not asking.done(), asking
        asking.cancel()
        swap = answers.index("acme@2")
        assert set(answers[:swap]) == {"acme@1"}
        assert set(answers[swap:]) == {"acme@2"}
        ready, readiness = await asyncio.to_thread(ask, process.plan.paths.server_socket)
        assert ready
        assert readiness.adapters is not None
        assert readiness.adapters["acme"].serving == "acme@2"
        os.kill(os.getpid(), signal.SIGTERM)
        assert await process.task == 0
        with pytest.raises(NoAnswer, match="make up"):
            ask(process.plan.paths.server_socket)


@pytest.mark.parametrize("profile", ["", "cpu"])
def test_shipped_settings_decode(profile: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every shipped configuration is complete and has no unknown key."""
    monkeypatch.setenv("WHETSTONE_PROFILE", profile)
    settings = load("server", ServerSettings, folder=ROOT / "config")
    assert settings.server.host == "127.0.0.1"
    assert settings.engine.max_cpu_loras >= settings.engine.max_loras
