"""Clients that stop reading their streams, on real sockets: the server stops taking from the engine for them, and for nobody else."""

import asyncio
import json
import socket
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path

import pytest

from services.server.engine.protocol import Delta, EngineAdapter, Sampling, Take
from tests.unit.server.fakes import BASE, FakeEngine, untaken
from tests.unit.server.harness import Server, until
from tests.unit.server.process import free_port

READERS = 3
WORD = "x" * 10_000
WORDS = 3000  # 30 MB
KERNEL_BYTES = int(
    Path("/proc/sys/net/ipv4/tcp_wmem").read_text().split()[2]
)  # what a socket may hold before Granian hears of it
WAITING_WORDS = (
    4 + 1 + 1
)  # Granian's queue of an answer, the one that waits for room in it, and the one that the answer waits with
SETTLE_SECONDS = 0.1


class FloodEngine(FakeEngine):
    """Has a whole answer of ``max_tokens`` long words at once.

    Attributes:
        taken: bytes of text that were taken of it, by the answer's ``max_tokens``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.max_model_len = 10_000
        self.taken: dict[int, int] = {}

    async def generate(
        self,
        request_id: str,
        prompt: list[int],
        sampling: Sampling,
        adapter: EngineAdapter | None,
        take: Take | None = None,
    ) -> AsyncGenerator[list[Delta], None]:
        del request_id, prompt, adapter
        whole = sampling.max_tokens
        for place in range(whole):
            await asyncio.sleep(0)
            self.taken[whole] = self.taken.get(whole, 0) + len(WORD)
            delta = Delta(index=0, text=WORD, tokens=1, finish_reason="length" if place == whole - 1 else None)
            if untaken([delta], take):
                yield [delta]


def flooding(root: Path, **changes: float) -> Server:
    """A server with the engine that never makes anyone wait, and no limit on what is asked of it."""
    return Server(root, engine=FloodEngine(), port=free_port(), max_output_tokens=0, **changes)


@pytest.fixture
async def listening(tmp_path: Path) -> AsyncIterator[Server]:
    """The application behind its doors."""
    server = flooding(tmp_path)
    async with server.listening():
        yield server


async def open_stream(port: int, words: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A stream of so many words whose client has little room and reads only when it is told."""
    body = {"model": BASE, "messages": [{"role": "user", "content": "hi"}], "stream": True, "max_tokens": words}
    raw = json.dumps(body).encode()
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.setblocking(False)
    await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=connection, limit=len(WORD))
    writer.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: server\r\nconnection: close\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\n\r\n%s" % (len(raw), raw)
    )
    return reader, writer


async def read_all(reader: asyncio.StreamReader) -> int:
    """How many letters of words came, to the stream's end."""
    letters, tail = 0, b""
    while read := await reader.read(65_536):
        letters += read.count(b"x")
        tail = (tail + read)[-64:]
    assert b"[DONE]" in tail
    return letters


async def settled(engine: FloodEngine) -> None:
    """Until nothing more is taken of the engine."""
    before: dict[int, int] = {}
    while before != engine.taken or len(before) < READERS:
        before = dict(engine.taken)
        await asyncio.sleep(SETTLE_SECONDS)


async def test_clients_that_stop_reading_hold_a_bounded_part_of_their_answers(listening: Server) -> None:
    """Beyond the sockets' own buffers no more than Granian's buffer and its queue of four writes waits; others' streams go on, and nothing is lost."""
    engine, port = listening.engine, listening.plan.settings.server.port
    assert isinstance(engine, FloodEngine)
    lengths = [WORDS + number for number in range(READERS)]
    stopped = [await open_stream(port, length) for length in lengths]
    async with asyncio.timeout(5):
        await settled(engine)
    held = [engine.taken[length] for length in lengths]
    assert (
        max(held)
        < KERNEL_BYTES + listening.services.limits.max_head_bytes + WAITING_WORDS * len(WORD)
        < WORDS * len(WORD)
    )

    reader, writer = await open_stream(port, 100)
    assert await asyncio.wait_for(read_all(reader), 3) >= 100 * len(WORD)
    writer.close()
    assert [engine.taken[length] for length in lengths] == held

    stopped[1][1].close()
    stopped[2][1].close()
    await until(lambda: listening.services.admission.in_flight == 1)
    reader, writer = stopped[0]
    assert await asyncio.wait_for(read_all(reader), 5) >= WORDS * len(WORD)
    writer.close()


async def test_a_client_that_takes_nothing_is_cut_off(tmp_path: Path) -> None:
    """After ``limits.unread_seconds``, as if it had left; one that reads slowly is not, however long it takes."""
    server = flooding(tmp_path, unread_seconds=0.5)
    async with server.listening():
        port = server.plan.settings.server.port
        stopped, slow = [await open_stream(port, WORDS + number) for number in range(2)]
        await until(lambda: server.services.admission.in_flight == 2)
        async with asyncio.timeout(5):
            while server.services.admission.in_flight == 2:
                await slow[0].read(len(WORD))
                await asyncio.sleep(0.05)
        assert 'outcome="client_gone"' in server.services.metrics.text().decode()
        assert await asyncio.wait_for(read_all(slow[0]), 5) > 0
        with pytest.raises(ConnectionError):
            await read_all(stopped[0])
        for _, writer in (stopped, slow):
            writer.close()


async def test_a_client_that_does_not_read_has_its_place_no_longer_than_an_answer_takes(tmp_path: Path) -> None:
    """Others get it, while the end of the stream, an error, waits for the client."""
    server = flooding(tmp_path, answer_seconds=0.5)
    async with server.listening():
        reader, writer = await open_stream(server.plan.settings.server.port, WORDS)
        await until(lambda: server.services.admission.in_flight == 1)
        await until(lambda: server.services.admission.in_flight == 0)
        tail = b""
        async with asyncio.timeout(5):
            while read := await reader.read(65_536):
                tail = (tail + read)[-1000:]
        assert b'"code":"answer_timeout"' in tail
        assert b"[DONE]" not in tail
        writer.close()
