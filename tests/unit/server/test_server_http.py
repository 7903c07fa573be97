"""What the port makes of HTTP that no honest client speaks, on real sockets: an answer or an end, and the next client is served."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.server.fakes import BASE
from tests.unit.server.harness import Server
from tests.unit.server.process import free_port

BODY = json.dumps({"model": BASE, "messages": [{"role": "user", "content": "hi"}]}).encode()
CHUNK = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
TWO_CHUNKS = b"2\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n" % (BODY[:2], len(BODY) - 2, BODY[2:])
ALIVE = b"GET /livez HTTP/1.1\r\nhost: server\r\nconnection: close\r\n\r\n"
CHAT = b"POST /v1/chat/completions HTTP/1.1\r\nhost: server\r\ncontent-type: application/json\r\n"
CHUNKED = CHAT + b"transfer-encoding: chunked\r\n\r\n"
HEAD_SECONDS = 1.0
CONNECTIONS = 8


@pytest.fixture
async def listening(tmp_path: Path) -> AsyncIterator[Server]:
    """The application behind its doors, with little patience and room."""
    server = Server(tmp_path, port=free_port(), head_seconds=HEAD_SECONDS, max_connections=CONNECTIONS)
    async with server.listening():
        yield server


async def answer(server: Server, raw: bytes, seconds: float = 3) -> bytes:
    """All that comes back for these bytes, until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.plan.settings.server.port)
    try:
        writer.write(raw)
        async with asyncio.timeout(seconds):
            return await reader.read()
    finally:
        writer.close()


def statuses(raw: bytes) -> list[int]:
    """Of all answers in it."""
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d+) ", raw)]


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"GET /livez\r\n\r\n", 400),
        (b"GET /livez HTTP/3.0\r\n\r\n", 400),
        (b"\x16\x03\x01" + bytes(300), 400),
        (b"GET /livez HTTP/1.1\r\nhost : server\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nhost: server\r\nx-a: b\r\n c\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nhost: server\r\n" + b"x-a: b\r\n" * 200 + b"\r\n", 431),
        (b"GET /livez HTTP/1.1\r\nhost: server\r\nx-a: " + b"a" * 1_000_000 + b"\r\n\r\n", 431),
        (CHAT + b"content-length: -1\r\n\r\n", 400),
        (CHAT + b"content-length: +5\r\n\r\nhello", 400),
        (CHAT + b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello", 400),
        (CHAT + b"transfer-encoding: chunked, identity\r\n\r\n" + CHUNK, 400),
        (CHUNKED + b"fffffffffffffffff\r\n", 400),
        (CHUNKED + b"1;" + b"a" * 1_000_000 + b"\r\n", 400),
        (CHUNKED + CHUNK[:-2] + b"x: " + b"a" * 1_000_000 + b"\r\n\r\n", 400),
        (CHUNKED + b"1000\r\n%s\r\n" % (b" " * 4096) * 1000, 413),
    ],
)
async def test_broken_http_is_refused_and_the_connection_closed(
    listening: Server, capsys: pytest.CaptureFixture[str], raw: bytes, status: int
) -> None:
    """As the client's fault, without a line in the log."""
    try:
        assert statuses(await answer(listening, raw)) == [status]
    except ConnectionError:
        assert len(raw) > 100_000, "a refusal may be lost where the rest is still being sent"
    assert "request failed" not in capsys.readouterr().out
    assert statuses(await answer(listening, ALIVE)) == [200]


async def test_a_body_that_breaks_off_is_the_clients_fault(
    listening: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whether the rest of it cannot be read, or the client is gone."""
    document = json.loads((await answer(listening, CHUNKED + b"hello\r\n")).partition(b"\r\n\r\n")[2])
    assert document["error"]["type"] == "invalid_request_error"
    _, writer = await asyncio.open_connection("127.0.0.1", listening.plan.settings.server.port)
    writer.write(CHAT + b"content-length: 100\r\n\r\n{")
    await writer.drain()
    await asyncio.sleep(0.1)
    writer.close()
    await asyncio.sleep(0.1)
    assert "request failed" not in capsys.readouterr().out


@pytest.mark.parametrize("length", [b"0", b"2", b"5"])
@pytest.mark.parametrize("first", ["length", "chunks"])
async def test_two_lengths_make_no_second_request(listening: Server, length: bytes, first: str) -> None:
    """Chunks count where there is a length, too, also one that ends at a chunk's edge; what comes after them is thrown away."""
    both = [b"content-length: %s\r\n" % length, b"transfer-encoding: chunked\r\n"]
    raw = CHAT + b"".join(both if first == "length" else reversed(both)) + b"\r\n" + TWO_CHUNKS + ALIVE
    assert statuses(await answer(listening, raw)) == [200]


@pytest.mark.parametrize(
    "raw",
    [
        ALIVE.replace(b"HTTP/1.1", b"HTTP/1.0").replace(b"connection: close\r\n", b""),
        ALIVE.replace(b"host: server\r\n", b""),
        ALIVE.replace(b"/livez", b"http://elsewhere/livez"),
        ALIVE.replace(b"\r\n\r\n", b"\r\nupgrade: websocket\r\nsec-websocket-key: a\r\n\r\n"),
        ALIVE.replace(b"\r\n\r\n", b"\r\nupgrade: h2c\r\n\r\n"),
        CHAT + b"connection: close\r\ntransfer-encoding: chunked\r\n\r\n" + CHUNK,
    ],
)
async def test_unusual_http_is_answered(listening: Server, raw: bytes) -> None:
    """Old clients, proxies' whole addresses, upgrades that are not taken, bodies in chunks."""
    assert statuses(await answer(listening, raw)) == [200]


async def test_requests_behind_each_other_are_answered_in_order(listening: Server) -> None:
    """On one connection, all sent before the first answer."""
    chat = CHAT + b"content-length: %d\r\n\r\n%s" % (len(BODY), BODY)
    raw = await answer(listening, chat + b"GET /nothing HTTP/1.1\r\nhost: server\r\n\r\n" + chat + ALIVE)
    assert statuses(raw) == [200, 404, 200, 200]


async def test_who_asks_before_sending_a_body_is_told_to_send_it(listening: Server) -> None:
    """``Expect: 100-continue``; and not where the body would be refused."""
    reader, writer = await asyncio.open_connection("127.0.0.1", listening.plan.settings.server.port)
    writer.write(CHAT + b"expect: 100-continue\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(BODY))
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(BODY)
    assert statuses(await reader.read()) == [200]
    writer.close()
    large = CHAT + b"expect: 100-continue\r\ncontent-length: 99999999\r\n\r\n"
    assert statuses(await answer(listening, large)) == [413]


@pytest.mark.parametrize("sent", [b"", b"GET /livez HTTP/1.1\r\nhost", ALIVE.replace(b"close", b"keep-alive")])
async def test_idle_connections_lock_nobody_out_for_long(listening: Server, sent: bytes) -> None:
    """Who comes when all are taken waits, at most until the idle ones are closed; the private socket's are others."""
    port = listening.plan.settings.server.port
    idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2 * CONNECTIONS)]
    for _, writer in idle:
        writer.write(sent)
    await asyncio.sleep(HEAD_SECONDS / 10)
    reader, writer = await asyncio.open_unix_connection(listening.plan.paths.server_socket)
    writer.write(ALIVE.replace(b"/livez", b"/readyz"))
    assert statuses(await asyncio.wait_for(reader.read(), HEAD_SECONDS / 2)) == [200]
    writer.close()
    assert statuses(await answer(listening, ALIVE, 6 * HEAD_SECONDS)) == [200]
    for _, writer in idle:
        writer.close()


@pytest.mark.parametrize(("share", "status"), [(0.9, 200), (2, 431)])
async def test_a_head_is_as_long_as_the_setting_lets_it_be(listening: Server, share: float, status: int) -> None:
    """``limits.max_head_bytes``, or what comes with the last of them in one read."""
    filling = b"a" * int(share * listening.services.limits.max_head_bytes)
    assert statuses(await answer(listening, ALIVE.replace(b"\r\n\r\n", b"\r\nx-a: %b\r\n\r\n" % filling))) == [status]


async def test_answers_do_not_tell_what_serves_them(listening: Server) -> None:
    """No name and no version of a library."""
    for raw in (ALIVE, ALIVE.replace(b"/livez", b"/nothing"), ALIVE.replace(b"GET", b"HEAD"), b"nonsense\r\n\r\n"):
        assert b"granian" not in (await answer(listening, raw)).lower()
