"""A thousand clients that vanish in the middle of their streams, on real sockets: nothing of them is left."""

import asyncio
import json
import struct
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from socket import SO_LINGER, SOL_SOCKET

import pytest

from services.server.engine.protocol import Delta, EngineAdapter, Sampling, Take
from tests.unit.server.fakes import FakeEngine
from tests.unit.server.harness import Server, publish_version, until
from tests.unit.server.process import free_port

WAVES, WAVE = 5, 200
BODY = json.dumps({"model": "acme@1", "messages": [{"role": "user", "content": "hi"}], "stream": True}).encode()
REQUEST = (
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: server\r\ncontent-type: application/json\r\n"
    b"content-length: %d\r\n\r\n%s" % (len(BODY), BODY)
)


class HeldEngine(FakeEngine):
    """Says one word to everyone, and no more."""

    async def generate(
        self,
        request_id: str,
        prompt: list[int],
        sampling: Sampling,
        adapter: EngineAdapter | None,
        take: Take | None = None,
    ) -> AsyncGenerator[list[Delta], None]:
        del prompt, sampling, adapter, take
        self.begun.append(request_id)
        try:
            yield [Delta(index=0, text="word ", tokens=1)]
            await asyncio.Event().wait()
        finally:
            self.aborted.append(request_id)


@pytest.fixture
async def listening(tmp_path: Path) -> AsyncIterator[Server]:
    """The application behind its doors, with room for one wave."""
    server = Server(
        tmp_path, engine=HeldEngine(), port=free_port(), max_num_seqs=WAVE, max_waiting=0, body_seconds=10.0
    )
    publish_version(server.registry)
    await server.reconcile()
    async with server.listening():
        yield server


async def open_stream(port: int) -> asyncio.StreamWriter:
    """A client that has read its stream's first word."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(REQUEST)
    await reader.readuntil(b"word")
    return writer


def vanish(writer: asyncio.StreamWriter, *, reset: bool) -> None:
    """Hang up without another word: with a reset as a killed program does, or closed."""
    if reset:
        writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def open_files() -> int:
    """This process's file descriptors."""
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_a_thousand_clients_that_vanish_leave_nothing(listening: Server) -> None:
    """Within a second of each wave: no running work, no place, no lease, no file; the next wave finds all the room."""
    engine, admission = listening.engine, listening.services.admission
    version = listening.services.catalogue.entries["acme"].loaded[1]
    port = listening.plan.settings.server.port
    before = open_files()
    for _ in range(WAVES):
        writers = await asyncio.gather(*(open_stream(port) for _ in range(WAVE)))
        assert (admission.in_flight, version.leases) == (WAVE, WAVE)
        for number, writer in enumerate(writers):
            vanish(writer, reset=number % 2 == 0)
        await until(
            lambda: (
                len(engine.begun) - len(engine.aborted) == 0
                and (admission.in_flight, version.leases) == (0, 0)
                and open_files() <= before
            ),
            seconds=1,
        )
    assert sorted(engine.aborted) == sorted(engine.begun)
    assert len(engine.begun) == WAVES * WAVE
