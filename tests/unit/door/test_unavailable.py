"""What the door says while no server has the port: 503 as the server itself says it, within bounds, heard by whoever asks."""

import asyncio
import http.client
import json
import socket
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, closing

import openai
import pytest

from services.common.retrying import UNKNOWN_START_SECONDS
from services.door.unavailable import CLIENTS, Unavailable
from services.server import errors

BODY = "x" * 6_000_000  # more than the kernel takes before anybody reads
SECONDS = 0.5


@pytest.fixture
async def unavailable() -> AsyncIterator[Unavailable]:
    """One that answers on a port of its own, and gives each client a fraction of a second."""
    lost: list[OSError] = []
    with socket.create_server(("127.0.0.1", 0), backlog=2 * CLIENTS) as port:
        port.setblocking(False)
        unavailable = Unavailable(port, lost.append, seconds=SECONDS)
        unavailable.begin()
        yield unavailable
        unavailable.pause()
    assert lost == []


def ask(port: int, method: str, path: str, body: str | None = None) -> tuple[http.client.HTTPResponse, bytes]:
    """An answer and its body, after the whole request was sent."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    with closing(connection):
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer, answer.read()


@pytest.mark.parametrize("start_seconds", [0, 17, 400])
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/readyz", None),
        ("POST", "/v1/chat/completions", BODY),
        ("DELETE", "/", None),
        ("HEAD", "/v1/models", None),
        ("BREW", "/" + "p" * 70_000, None),
    ],
    ids=lambda value: str(value)[:8],
)
async def test_every_request_is_answered(
    unavailable: Unavailable, start_seconds: int, method: str, path: str, body: str | None
) -> None:
    """Any method, path and body: 503 with the server's own kind of error, how long a start takes here, and the connection's end."""
    unavailable.start_seconds = start_seconds
    answer, said = await asyncio.to_thread(ask, unavailable.port, method, path, body)
    assert answer.status == 503
    assert answer.headers["connection"] == "close"
    assert answer.headers["content-type"] == "application/json"
    waits = min((start_seconds or UNKNOWN_START_SECONDS) + 5, 60)
    assert int(answer.headers["retry-after"]) == waits
    assert waits * 1000 <= int(answer.headers["retry-after-ms"]) <= min(waits * 1500, 60_000)
    if method == "HEAD":
        assert said == b""
    else:
        theirs = json.loads(said)
        assert theirs == json.loads(errors.Unavailable(theirs["error"]["message"]).encoded())


async def test_the_sdk_raises_what_it_would_for_the_server(unavailable: Unavailable) -> None:
    """Its own exception, not one of a broken connection, though it has sent its body whole before it reads."""
    client = openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{unavailable.port}/v1", api_key="none", max_retries=0)
    async with client:
        with pytest.raises(openai.InternalServerError) as caught:
            await client.chat.completions.create(model="x", messages=[{"role": "user", "content": BODY}])
    assert (caught.value.status_code, caught.value.type, caught.value.code) == (
        503,
        "server_error",
        "service_unavailable",
    )


async def test_clients_and_their_time_are_bounded(unavailable: Unavailable) -> None:
    """As many as are let in, and say nothing whole, keep the next waiting for no longer than each of them has."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    with ExitStack() as open_ones:
        dumb = [
            open_ones.enter_context(socket.create_connection(("127.0.0.1", unavailable.port), timeout=3))
            for _ in range(CLIENTS)
        ]
        for client in dumb:
            client.sendall(b"POST / HTTP/1.1\r\n")
        answer, _ = await asyncio.to_thread(ask, unavailable.port, "GET", "/")
        assert answer.status == 503
        assert SECONDS <= loop.time() - began < SECONDS + 3
        for client in dumb:
            assert await asyncio.to_thread(client.recv, 1) == b""


async def test_who_goes_on_sending_is_cut_off(unavailable: Unavailable) -> None:
    """After the answer, too, a client has no more time than any."""
    with socket.create_connection(("127.0.0.1", unavailable.port), timeout=3) as client:
        client.sendall(b"POST / HTTP/1.1\r\n\r\n")
        assert (await asyncio.to_thread(client.recv, 12)) == b"HTTP/1.1 503"
        began = asyncio.get_running_loop().time()
        with pytest.raises(ConnectionError):
            await asyncio.to_thread(send_for_ever, client)
        assert asyncio.get_running_loop().time() - began < SECONDS + 3


def send_for_ever(client: socket.socket) -> None:
    """A little at a time."""
    while True:
        client.sendall(b"x" * 1000)
        time.sleep(0.01)


async def test_a_port_that_was_made_something_else_is_told() -> None:
    """It listens no more, and nobody would be answered."""
    lost: asyncio.Future[OSError] = asyncio.get_running_loop().create_future()
    with socket.create_server(("127.0.0.1", 0)) as port:
        port.setblocking(False)
        Unavailable(port, lost.set_result).begin()
        port.shutdown(socket.SHUT_RDWR)
        assert await asyncio.wait_for(lost, 3)
