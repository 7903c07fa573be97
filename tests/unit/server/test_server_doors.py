"""The port, which is one server's alone, and the private socket: the gate comes in without a key, and nobody else does."""

import asyncio
import os
import socket
import stat
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from services.server import doors
from services.server.doors import Doors
from services.server.errors import StartRefused
from services.server.keys import KeyFile
from services.server.serve import serve
from tests.unit.server.fakes import BASE, FakeEngine
from tests.unit.server.harness import Server, plan, settings
from tests.unit.server.process import MESSAGES, Process, free_port

REQUEST = b"GET / HTTP/1.1\r\nhost: server\r\n\r\n"
BODY = {"model": BASE, "messages": MESSAGES}
LIMITS = settings().limits


async def test_the_private_socket_needs_no_key_and_the_port_does(tmp_path: Path) -> None:
    """Who can open the socket's file has what the gate needs; its folder, whoever made it, lets no other user in."""
    plan(tmp_path, FakeEngine()).paths.server_socket.parent.mkdir(mode=0o755)
    async with Process(tmp_path) as process:
        KeyFile(process.plan.paths.keys / "keys.json").add("app", ["*"], None)
        private = process.plan.paths.server_socket
        async with (
            httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=str(private)), base_url="http://server") as inside,
            httpx.AsyncClient(base_url=process.url) as outside,
        ):
            assert (await outside.post("/v1/chat/completions", json=BODY)).status_code == 401
            assert (await inside.post("/v1/chat/completions", json=BODY)).status_code == 200
            assert (await inside.get("/readyz")).json()["base"] == BASE
            assert (await inside.get("/metrics")).status_code == 403
        assert stat.S_IMODE(private.parent.stat().st_mode) == 0o700


async def test_no_address_is_the_private_socket(server: Server) -> None:
    """A client from elsewhere, or one whose address is not known any more, needs a key as soon as there is one."""
    KeyFile(server.plan.paths.keys / "keys.json").add("app", ["*"], None)
    for address in ("the private socket", "192.0.2.7", ""):
        assert (await server.ask(body=BODY, address=address)).status == 401


async def test_a_socket_that_a_killed_server_left_is_replaced(tmp_path: Path) -> None:
    private = plan(tmp_path, FakeEngine()).paths.server_socket
    private.parent.mkdir()
    private.touch()
    async with Process(tmp_path), httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=str(private))) as inside:
        assert (await inside.get("http://server/readyz")).json()["base"] == BASE


async def test_a_socket_that_cannot_be_made_refuses_the_start(tmp_path: Path) -> None:
    """With its path and what to do; a gate that could never reach the server would be found out much later."""
    deep = tmp_path / ("d" * 120)
    with pytest.raises(StartRefused, match="shorter than 108 bytes"):
        await serve(plan(deep, FakeEngine(), port=free_port()))


async def huge(scope: Any, receive: Any, send: Any) -> None:
    """An application with one answer, larger than any buffer."""
    del scope, receive
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": bytes(50_000_000)})


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", "::1", "::"])  # noqa: S104
async def test_a_port_is_one_servers_alone(tmp_path: Path, host: str) -> None:
    """A second one is refused before the first serves and while it does, and takes its private socket from it at no time."""
    listen = msgspec.structs.replace(plan(tmp_path, FakeEngine(), port=free_port()).settings.server, host=host)
    first = Doors(huge, listen, LIMITS, tmp_path / "private")
    held = (tmp_path / "private").stat().st_ino
    refused = pytest.raises(StartRefused, match=r"Address already in use.*; set server.host and server.port")
    with refused:
        Doors(huge, listen, LIMITS, tmp_path / "private")
    serving = asyncio.create_task(first.serve())
    for _ in range(20):
        with refused:
            Doors(huge, listen, LIMITS, tmp_path / "private")
        await asyncio.sleep(0)
    assert (tmp_path / "private").stat().st_ino == held
    first.close()
    await serving
    again = Doors(huge, listen, LIMITS, tmp_path / "private")
    again.close()
    await again.serve()


async def test_who_comes_before_the_server_serves_waits(tmp_path: Path) -> None:
    """No client is refused once the port is taken, on neither door."""
    listen = plan(tmp_path, FakeEngine(), port=free_port()).settings.server
    early = Doors(huge, listen, LIMITS, tmp_path / "private")
    come = [
        await asyncio.open_connection("127.0.0.1", listen.port),
        await asyncio.open_unix_connection(tmp_path / "private"),
    ]
    for _, writer in come:
        writer.write(REQUEST)
    serving = asyncio.create_task(early.serve())
    for reader, writer in come:
        assert (await asyncio.wait_for(reader.readline(), 3)).startswith(b"HTTP/1.1 200")
        writer.transport.abort()
    early.close()
    await serving


async def test_a_client_that_does_not_read_does_not_keep_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has a while for the end of its answer, and then the process ends without it."""
    monkeypatch.setattr(doors, "_CLOSE_SECONDS", 0.2)
    listen = plan(tmp_path, FakeEngine(), port=free_port()).settings.server
    server = Doors(huge, listen, LIMITS, tmp_path / "private")
    serving = asyncio.create_task(server.serve())
    reader, writer = await asyncio.open_connection("127.0.0.1", listen.port)
    writer.write(REQUEST)
    await reader.readexactly(1)
    server.close()
    await asyncio.wait_for(serving, 3)
    writer.transport.abort()


async def test_no_token_waits_for_the_next(tmp_path: Path) -> None:
    """The kernel sends what is written at once: connections have the port's TCP_NODELAY."""
    listen = plan(tmp_path, FakeEngine(), port=free_port()).settings.server
    server = Doors(huge, listen, LIMITS, tmp_path / "private")
    serving = asyncio.create_task(server.serve())
    reader, writer = await asyncio.open_connection("127.0.0.1", listen.port)
    writer.write(REQUEST)
    await reader.readexactly(1)
    assert _no_delay_towards(writer.get_extra_info("sockname"))
    writer.transport.abort()
    server.close()
    await serving


def _no_delay_towards(peer: Any) -> int:
    """TCP_NODELAY of this process's connection whose other end is ``peer``."""
    for number in Path("/proc/self/fd").iterdir():
        try:
            with socket.socket(fileno=os.dup(int(number.name))) as own:
                if own.getpeername() == peer:
                    return own.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        except OSError:  # no socket, none that is connected, or closed meanwhile
            continue
    raise AssertionError("no such connection")
