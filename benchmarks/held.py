"""What connections hold of the server's memory: idle ones, such that are being answered, and such whose clients do not read.

python -m benchmarks.held --base FOLDER --out benchmarks/results/held.json
python -m benchmarks.held --base FOLDER --active 32 --turns 2 --slow 8 --slow-tokens 400 --cpu --out ...      on a CPU

What the server's own process holds for itself is counted (RssAnon), the engine's processes are not. A turn opens the idle ones, then the
others beside them, then closes all. Of the first turn are the bytes of one: what a first connection of its kind makes was made before.
Memory that was given back is used again, so that later turns show only what is kept: they should rise no more.
The slow readers ask for whole answers and read nothing; their memory is looked at until the engine has generated all of them, and after
they have left. The kernel's sockets take some MiB of each answer first, and are counted apart, those of the whole machine together:
an answer is larger than that only with --slow-logprobs 20.
"""

import argparse
import asyncio
import contextlib
import json
import resource
import socket
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.adapters import lay_out, publish_random
from benchmarks.asking import request
from benchmarks.machine import described, write_result
from benchmarks.servers import ADAPTER, Engine, RealServer, start_whetstone
from services.server.open_files import make_room

_SETTLE_SECONDS = 1.0
_LEAVE_SECONDS = 60.0
_STILL_THERE_SECONDS = 10.0  # the server closes a connection that is idle for 30
_TOKENS = 1900  # of an active answer: it does not end meanwhile
_FIRST = 8  # connections of each kind before any is counted
_OK = b"HTTP/1.1 200"
_ROOM_BYTES = 4096  # of a slow reader's socket
_MEBIBYTE = 2**20

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Turn(msgspec.Struct, frozen=True):
    """Memory of one turn, in bytes: before, with the idle ones, with the active ones beside them, and after all have left."""

    before: int
    idle: int
    active: int
    after: int


class Holding:
    """Connections to one server.

    Args:
        server: its processes.
    """

    def __init__(self, server: RealServer) -> None:
        self._server = server
        self._short = request("GET", "/v1/models", server.key)

    def memory(self) -> int:
        """Bytes that the server's process holds for itself."""
        status = Path(f"/proc/{self._server.pid}/status").read_text()
        (line,) = (line for line in status.splitlines() if line.startswith("RssAnon:"))
        return int(line.split()[1]) * 1024

    async def turn(self, idle: int, active: int) -> Turn:
        """So many that have had an answer and wait, and so many whose answers run, each to a client that reads."""
        before = self.memory()
        waiting = [await self._idle() for _ in range(idle)]
        await asyncio.sleep(_SETTLE_SECONDS)
        with_idle = self.memory()
        async with self._staying(waiting):
            answered = await asyncio.gather(*(self._active() for _ in range(active)))
            reading = [asyncio.create_task(reader.read(-1)) for reader, _ in answered]
            await asyncio.sleep(_SETTLE_SECONDS)
            with_active = self.memory()
        if any(task.done() for task in reading) or any(reader.at_eof() for reader, _ in waiting):
            raise RuntimeError("an answer or a connection ended meanwhile")
        for task in reading:
            task.cancel()
        for _, writer in [*waiting, *answered]:
            writer.transport.abort()
        await self._left()
        return Turn(before, with_idle, with_active, self.memory())

    async def slow(self, count: int, tokens: int, logprobs: int) -> dict[str, Any]:
        """So many that ask for so many tokens and do not read: MiB, as they are generated and once they have left."""
        before, sockets_before, began = self.memory(), _socket_bytes(), time.monotonic()
        asked = self._long(tokens, logprobs)
        opened = [await self._slow_reader(asked) for _ in range(count)]
        seen, sockets = [before], sockets_before
        while not all(map(_has_begun, opened)) or await asyncio.to_thread(self._is_generating):
            await asyncio.sleep(_SETTLE_SECONDS)
            seen.append(self.memory())
            sockets = max(sockets, _socket_bytes())
        seconds = time.monotonic() - began
        for connection in opened:
            connection.close()
        await self._left()
        return {
            "connections": count,
            "tokens": tokens,
            "top_logprobs": logprobs,
            "seconds": round(seconds, 1),
            "bytes_of_one": round((max(seen) - before) / count),
            "bytes_of_one_in_sockets": round((sockets - sockets_before) / count),
            "mebibytes_as_they_were_generated": [_mebibytes(found) for found in seen[:: max(1, len(seen) // 20)]],
            "mebibytes_at_most": _mebibytes(max(seen)),
            "mebibytes_after": _mebibytes(self.memory()),
        }

    def _long(self, tokens: int, logprobs: int = 0) -> bytes:
        body: dict[str, Any] = {"model": ADAPTER, "max_tokens": tokens, "ignore_eos": True, "stream": True}
        if logprobs:
            body |= {"logprobs": True, "top_logprobs": logprobs}
        body["messages"] = [{"role": "user", "content": "Tell me of the sea."}]
        return request("POST", "/v1/chat/completions", self._server.key, body)

    async def _idle(self) -> Connection:
        connection = await asyncio.open_connection("127.0.0.1", self._server.port)
        await self._ask_short(connection)
        return connection

    async def _ask_short(self, connection: Connection) -> None:
        reader, writer = connection
        writer.write(self._short)
        head = await _head(reader)
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(int(length.split(b":")[1]))

    async def _active(self) -> Connection:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._server.port)
        writer.write(self._long(_TOKENS))
        await _head(reader)
        return reader, writer

    async def _slow_reader(self, asked: bytes) -> socket.socket:
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _ROOM_BYTES)
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", self._server.port))
        await asyncio.get_running_loop().sock_sendall(connection, asked)
        return connection

    @contextlib.asynccontextmanager
    async def _staying(self, waiting: list[Connection]) -> AsyncIterator[None]:
        """Idle connections stay open: each asks again from time to time."""

        async def ask_again() -> None:
            while True:
                await asyncio.sleep(_STILL_THERE_SECONDS)
                for connection in waiting:
                    await self._ask_short(connection)

        async with asyncio.TaskGroup() as staying:
            task = staying.create_task(ask_again())
            yield
            task.cancel()

    async def _left(self) -> None:
        """Until the server has noticed that all have left."""
        await asyncio.to_thread(self._wait_left)
        await asyncio.sleep(_SETTLE_SECONDS)

    def _wait_left(self) -> None:
        end = time.monotonic() + _LEAVE_SECONDS
        while self._in_flight():
            if time.monotonic() > end:
                raise RuntimeError(f"answers to nobody are generated for {_LEAVE_SECONDS:.0f} s")
            time.sleep(_SETTLE_SECONDS / 10)

    def _in_flight(self) -> int:
        return int(json.loads(self._said("/readyz"))["answers_in_flight"])

    def _is_generating(self) -> bool:
        """By vLLM's own count."""
        names = ("vllm:num_requests_running", "vllm:num_requests_waiting{")
        lines = [line for line in self._said("/metrics").splitlines() if line.startswith(names)]
        return sum(float(line.rpartition(" ")[2]) for line in lines) > 0

    def _said(self, path: str) -> str:
        asked = urllib.request.Request(  # noqa: S310
            self._server.url + path, headers={"Authorization": f"Bearer {self._server.key}"}
        )
        with urllib.request.urlopen(asked, timeout=_LEAVE_SECONDS) as answer:  # noqa: S310
            return str(answer.read().decode())


async def measure(holding: Holding, options: argparse.Namespace) -> dict[str, Any]:
    """Turns, then the slow readers; the first of each kind are not counted."""
    await holding.turn(_FIRST, _FIRST)
    turns = []
    for _ in range(options.turns):
        turns.append(turn := await holding.turn(options.connections, options.active))
        print(turn, flush=True)
    first = turns[0]
    found = {
        "bytes_of_one_idle": round((first.idle - first.before) / options.connections),
        "bytes_of_one_active": round((first.active - first.idle) / options.active),
        "turns_in_mebibytes": [
            {name: _mebibytes(value) for name, value in msgspec.structs.asdict(turn).items()} for turn in turns
        ],
    }
    return found | {"slow_readers": await holding.slow(options.slow, options.slow_tokens, options.slow_logprobs)}


async def _head(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(_OK):
        raise RuntimeError(f"the server refused a request: {head.decode()}")
    return head


def _has_begun(connection: socket.socket) -> bool:
    """Whether an answer waits to be read; nothing is taken of it."""
    try:
        head = connection.recv(len(_OK), socket.MSG_PEEK)
    except BlockingIOError:
        return False
    if head != _OK:
        raise RuntimeError(f"the server refused a request: {head.decode()}")
    return True


def _socket_bytes() -> int:
    """What the kernel holds for TCP, of the whole machine; 0 where it does not say."""
    try:
        (line,) = (line for line in Path("/proc/net/sockstat").read_text().splitlines() if line.startswith("TCP:"))
    except (FileNotFoundError, ValueError):
        return 0
    return int(line.split()[-1]) * resource.getpagesize()


def _mebibytes(count: int) -> float:
    return round(count / _MEBIBYTE, 1)


def main() -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.held", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", type=Path, required=True, help="a base model's folder")
    parser.add_argument("--connections", type=int, default=1000, help="idle ones")
    parser.add_argument("--active", type=int, default=256, help="the engine's places, each with a stream")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--slow", type=int, default=1000, help="clients that read nothing")
    parser.add_argument("--slow-tokens", type=int, default=1000, help="of the answer to each of them")
    parser.add_argument("--slow-logprobs", type=int, default=0, help="top_logprobs of each of their tokens")
    parser.add_argument("--memory", type=float, default=0.3, help="of the card")
    parser.add_argument("--cpu", action="store_true", help="on vLLM's CPU build")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    make_room(2 * (options.connections + options.active + options.slow))
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        key = lay_out(data, options.base)
        publish_random(data, options.base.name, ADAPTER, probed=True)
        engine = Engine(streams=options.active, memory=options.memory, is_cpu=options.cpu, same_graphs=False)
        more = [f"limits.max_waiting={max(options.slow, _FIRST)}"]
        server = start_whetstone(engine, data, options.base, key, more=more)
        try:
            print("ready after", server.wait_ready(), "s", flush=True)
            found = asyncio.run(measure(Holding(server), options))
        finally:
            server.end()
    found = {"connections": options.connections, "active": options.active} | found
    print(json.dumps(found, indent=1))
    write_result(options.out, described("held") | found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
