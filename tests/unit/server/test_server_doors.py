"""The private socket: the operator's tools come in without a key, and nobody else does."""

import stat
from pathlib import Path

import httpx
import pytest

from services.server.errors import StartRefused
from services.server.keys import KeyFile
from services.server.serve import serve
from tests.unit.server.fakes import BASE, FakeEngine
from tests.unit.server.harness import Server, plan
from tests.unit.server.process import MESSAGES, Process, free_port

BODY = {"model": BASE, "messages": MESSAGES}


async def test_the_private_socket_needs_no_key_and_the_port_does(tmp_path: Path) -> None:
    """Who can open the socket's file is the operator; its folder, whoever made it, lets no other user in."""
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
            assert (await inside.get("/metrics")).status_code == 200
        assert stat.S_IMODE(private.parent.stat().st_mode) == 0o700


async def test_no_address_makes_an_operator(server: Server) -> None:
    """A client from elsewhere, or one whose address is not known any more, needs a key as soon as there is one."""
    KeyFile(server.plan.paths.keys / "keys.json").add("app", ["*"], None)
    for address in ("the private socket", "192.0.2.7", ""):
        assert (await server.ask(body=BODY, address=address)).status == 401


async def test_a_socket_that_a_killed_server_left_is_replaced(tmp_path: Path) -> None:
    private = plan(tmp_path, FakeEngine()).paths.server_socket
    private.parent.mkdir()
    private.touch()
    async with Process(tmp_path), httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=str(private))) as inside:
        assert (await inside.get("http://server/livez")).status_code == 200


async def test_a_socket_that_cannot_be_made_refuses_the_start(tmp_path: Path) -> None:
    """With its path and what to do; a gate that could never reach the server would be found out much later."""
    deep = tmp_path / ("d" * 120)
    with pytest.raises(StartRefused, match="shorter than 108 bytes"):
        await serve(plan(deep, FakeEngine(), port=free_port()))
