"""The server on a port that the door lends: no byte of a request goes through the door, and either may be started again."""

import asyncio
import os
import re
import signal
import socket
import stat
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import openai
import pytest

from services.common.retrying import UNKNOWN_START_SECONDS
from services.door.loan import borrow
from services.server.__main__ import main
from services.server.engine.protocol import Engine
from services.server.errors import StartRefused
from services.server.keys import KeyFile
from services.server.readiness import Readiness
from services.server.serve import build_services, serve
from services.server.status import NoAnswer, ask
from tests.support.doors import DoorProcess
from tests.unit.server.fakes import BASE, FakeEngine
from tests.unit.server.harness import plan, until
from tests.unit.server.process import MESSAGES, free_port


@pytest.fixture
def door(tmp_path: Path) -> Iterator[DoorProcess]:
    """One that is open."""
    with DoorProcess(tmp_path / "door" / "door.sock", free_port()) as door:
        yield door


class Served:
    """``serve`` as a task, with a port from the door at ``path``; a first engine's start is counted."""

    def __init__(self, root: Path, path: Path, **changes: Any) -> None:
        self.engine = FakeEngine()
        self.plan = plan(root, self.engine, door=str(path), **changes)
        self.task = asyncio.create_task(serve(self.plan))

    async def readiness(self) -> tuple[bool, Readiness]:
        """As the healthcheck asks."""
        return await asyncio.to_thread(ask, self.plan.paths.server_socket)

    async def until_ready(self, ready: bool = True) -> None:  # noqa: FBT001, FBT002 - one word
        """Wait until the healthcheck says so."""
        async with asyncio.timeout(10):
            while not self.task.done():
                try:
                    if (await self.readiness())[0] is ready:
                        return
                except NoAnswer:
                    pass
                await asyncio.sleep(0.02)
        raise AssertionError(self.task)

    async def stop(self) -> int:
        """As its supervisor ends it; the exit code."""
        if not self.task.done():
            os.kill(os.getpid(), signal.SIGTERM)
        return await self.task


@pytest.fixture
async def served(tmp_path: Path, door: DoorProcess) -> AsyncIterator[Served]:
    """Ready, with the door's port."""
    served = Served(tmp_path, door.path)
    await served.until_ready()
    yield served
    await served.stop()


async def answer(port: int) -> str:
    """What the official client gets on ``port``."""
    async with openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0) as client:
        reply = await client.chat.completions.create(model=BASE, messages=MESSAGES)
    return reply.choices[0].message.content or ""


async def test_apps_are_answered_on_the_doors_port(served: Served, door: DoorProcess) -> None:
    """By the server itself: the door, stopped meanwhile, has no part in it; connections have the port's settings."""
    door.process.send_signal(signal.SIGSTOP)
    try:
        assert await answer(door.port)
    finally:
        door.process.send_signal(signal.SIGCONT)
    assert (await served.readiness())[1].status == "ready"
    unread = int(served.plan.settings.limits.unread_seconds * 1000)
    assert _settings_on(door.port) == {(1, unread)}


async def test_a_client_has_its_own_address(served: Served, door: DoorProcess) -> None:
    """Who asks on this machine needs no key for details; were the door to pass bytes on, everyone would be this machine."""
    KeyFile(served.plan.paths.keys / "keys.json").add("app", ["*"], None)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{door.port}") as here:
        assert (await here.get("/readyz")).json()["base"] == BASE
        assert (await here.post("/v1/chat/completions", json={})).status_code == 401


async def test_another_door_is_served_without_a_new_start(served: Served, door: DoorProcess) -> None:
    """What was being answered is, the healthcheck is red until the next door is there, and the engine stays."""
    served.engine.gate.clear()
    begun = len(served.engine.begun)
    running = asyncio.create_task(answer(door.port))
    await until(lambda: len(served.engine.begun) > begun)
    door.end(signal.SIGKILL)
    await served.until_ready(False)
    _, readiness = await served.readiness()
    assert readiness.status == "degraded"
    assert readiness.unreachable is not None
    assert str(door.path) in readiness.unreachable
    assert readiness.unreachable in (readiness.problems or [])
    served.engine.gate.set()
    assert await running
    before = _open_files()
    for _ in range(3):
        with DoorProcess(door.path, free_port()) as other:
            assert await answer(other.port), "no client was sent away before the server was there"
            await served.until_ready()
        await served.until_ready(False)
    await until(lambda: _open_files() <= before)  # Granian's threads close them
    assert not served.task.done()


async def test_a_server_may_be_there_before_the_door(tmp_path: Path) -> None:
    """After a reboot either may be first: the gate's socket answers meanwhile, and the healthcheck says what is missing."""
    path = tmp_path / "door" / "door.sock"
    served = Served(tmp_path, path)
    await until(served.plan.paths.server_socket.exists)
    ready, readiness = await served.readiness()
    assert (ready, readiness.unreachable is None) == (False, False)
    with DoorProcess(path, free_port()) as door:
        await served.until_ready()
        assert await answer(door.port)
        assert await served.stop() == 0


async def test_a_server_without_a_door_ends_when_it_is_told(tmp_path: Path) -> None:
    """At once, with 0."""
    served = Served(tmp_path, tmp_path / "door.sock")
    await until(served.plan.paths.server_socket.exists)
    await asyncio.sleep(0.1)
    assert await asyncio.wait_for(served.stop(), 3) == 0


async def test_a_second_server_is_refused(served: Served, door: DoorProcess, tmp_path: Path) -> None:
    """Before an engine is started, and the first keeps its private socket."""
    held = served.plan.paths.server_socket.stat()[stat.ST_INO]
    engine = FakeEngine()
    with pytest.raises(StartRefused, match="another server has the port"):
        await serve(plan(tmp_path, engine, door=str(door.path)))
    assert engine.begun == []
    assert served.plan.paths.server_socket.stat()[stat.ST_INO] == held
    assert await answer(door.port)


async def test_a_server_whose_port_another_took_meanwhile_ends(served: Served, door: DoorProcess) -> None:
    """With 1, and without a word of taking it back."""
    door.end(signal.SIGKILL)
    await served.until_ready(False)
    with socket.socket(socket.AF_UNIX) as other:
        door.path.unlink()
        other.bind(str(door.path))
        other.listen()
        asking, _ = await asyncio.to_thread(other.accept)
        asking.sendall(b"T")
        asking.close()
        assert await asyncio.wait_for(served.task, 10) == 1


async def test_the_next_server_has_the_port(tmp_path: Path, door: DoorProcess) -> None:
    """One that ends gives it back, and the door answers clients in between: it was told how long a start takes here."""
    for _ in range(2):
        served = Served(tmp_path, door.path)
        await served.until_ready()
        assert await answer(door.port)
        assert await served.stop() == 0
        with pytest.raises(openai.InternalServerError) as caught:
            await answer(door.port)
        assert 0 < int(caught.value.response.headers["retry-after"]) < UNKNOWN_START_SECONDS


async def test_a_server_that_starts_says_how_long_it_will_take(tmp_path: Path, door: DoorProcess) -> None:
    """As long as the last start here, which the door knows."""
    loan = borrow(door.path)
    loan.tell(50)
    loan.give_back()

    async def start() -> Engine:
        await asyncio.Event().wait()
        raise AssertionError

    made = plan(tmp_path, FakeEngine(), door=str(door.path))
    task = asyncio.create_task(serve(msgspec.structs.replace(made, start_engine=start)))
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{door.port}") as http, asyncio.timeout(10):
        said = await http.get("/v1/models")
        while "starting" not in said.text:  # the door's
            await asyncio.sleep(0.02)
            said = await http.get("/v1/models")
    assert said.status_code == 503
    assert 45 <= int(said.headers["retry-after"]) <= 55
    os.kill(os.getpid(), signal.SIGTERM)
    assert await task == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])  # noqa: S104
@pytest.mark.parametrize("address", ["", "0.0.0.0", "::", "192.168.7.1"])  # noqa: S104
def test_a_port_that_is_published_elsewhere_needs_a_key(tmp_path: Path, host: str, address: str) -> None:
    """Whatever the host says: without a key its address must be known to be loopback, and the refusal names it and the remedy."""
    made = plan(tmp_path, FakeEngine(), host=host, door="/nowhere", published_at=address)
    named = address or "an address that nobody has said"
    with pytest.raises(
        StartRefused, match=rf"published at {re.escape(named)}, but no API key .* `make key NAME=\.\.\.`"
    ):
        build_services(made)
    build_services(plan(tmp_path, FakeEngine(), host=host, door="/nowhere", published_at="127.0.0.1"))
    KeyFile(made.paths.keys / "keys.json").add("app", ["*"], None)
    build_services(made)


async def test_the_healthcheck_is_red_while_no_app_comes_in(
    served: Served, door: DoorProcess, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """``status`` asks by the private socket and says why; the gate, which comes in there, is answered all the same."""
    monkeypatch.setenv("WHETSTONE_DATA", str(served.plan.paths.root))
    assert await asyncio.to_thread(main, ["status", "--json"]) == 0
    door.end(signal.SIGKILL)
    await served.until_ready(False)
    assert await asyncio.to_thread(main, ["status"]) == 1
    assert "! no app reaches the server: no door at" in capsys.readouterr().out
    private = httpx.AsyncHTTPTransport(uds=str(served.plan.paths.server_socket))
    async with httpx.AsyncClient(transport=private, base_url="http://server") as gate:
        assert (await gate.get("/readyz")).status_code == 200


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def _settings_on(port: int) -> set[tuple[int, int]]:
    """TCP_NODELAY and TCP_USER_TIMEOUT of this process's sockets on ``port``."""
    found = set()
    for number in Path("/proc/self/fd").iterdir():
        try:
            with socket.socket(fileno=os.dup(int(number.name))) as own:
                if own.family == socket.AF_INET and own.getsockname()[1] == port:
                    no_delay = own.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                    found.add((no_delay, own.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)))
        except OSError:  # no socket, or closed meanwhile
            continue
    return found
