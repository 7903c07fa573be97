"""Streamed chat requests without a pause, and what their answers took; one process on one core.

python -m benchmarks.load PLAN        prints one result

Raw sockets: a client that parses every frame is slower than the server that is measured. An answer counts as whole when it ends in
``[DONE]`` with a frame for each of its tokens; any other ends the measurement.
"""

import asyncio
import json
import resource
import sys
import time
from typing import Any

import msgspec
import uvloop

_FRAME = b'"delta":{"content":'  # of a token; what says who speaks, or why an answer ends, is not counted
_DONE = b"data: [DONE]\n\n"
_LAST_CHUNK = b"0\r\n\r\n"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One run.

    Attributes:
        port: of the server, on loopback.
        key: the API key.
        model: what is asked.
        streams: connections, each of which asks again once it is answered.
        words: of the prompt, each about a token.
        tokens: of an answer.
        warm_seconds: at the beginning, not counted.
        seconds: counted.
    """

    port: int
    key: str
    model: str
    streams: int = 64
    words: int = 40
    tokens: int = 64
    warm_seconds: float = 2.0
    seconds: float = 10.0


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What one run took.

    Attributes:
        requests: answered wholly in the counted time.
        frames: tokens received in it, each in a frame of its own.
        seconds: the counted time.
        cpu_seconds: of this process in it; near ``seconds`` means that the load was the limit.
        first_frame_ms: from a request to its first frame: median and 99th percentile.
        server_cpu_seconds: of the server's process; filled in by who knows it.
    """

    requests: int
    frames: int
    seconds: float
    cpu_seconds: float
    first_frame_ms: tuple[float, float]
    server_cpu_seconds: float = 0.0


class _Stream(asyncio.Protocol):
    """One connection."""

    def __init__(self, request: bytes, tokens: int, failed: "asyncio.Future[None]") -> None:
        self._request = request
        self._tokens = tokens
        self._failed = failed
        self._transport: Any = None  # uvloop's is no asyncio.Transport
        self._tail = b""
        self._answer_frames = 0
        self._asked = 0.0
        self.frames = 0
        self.requests = 0
        self.first: list[float] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._ask()

    def _ask(self) -> None:
        self._answer_frames = 0
        self._tail = b""
        self._asked = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if not self._tail and not data.startswith(b"HTTP/1.1 200"):
            self._fail(f"refused: {data[:300]!r}")
            return
        found = (self._tail[1 - len(_FRAME) :] + data).count(_FRAME)
        if found and not self._answer_frames:
            self.first.append(time.perf_counter() - self._asked)
        self._answer_frames += found
        self.frames += found
        self._tail = (self._tail + data)[-64:]
        if self._tail.endswith(_LAST_CHUNK):
            if _DONE not in self._tail or self._answer_frames != self._tokens:
                self._fail(f"an answer of {self._answer_frames} frames that ends in {self._tail!r}")
                return
            self.requests += 1
            self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(f"connection lost: {exc}")

    def _fail(self, why: str) -> None:
        if not self._failed.done():
            self._failed.set_exception(RuntimeError(why))


def _request(plan: Plan, number: int) -> bytes:
    words = " ".join(f"word{(number * 7 + word) % 97}" for word in range(plan.words // 2))
    body = json.dumps(
        {
            "model": plan.model,
            "messages": [{"role": "user", "content": words}],
            "max_tokens": plan.tokens,
            "temperature": 0,
            "stream": True,
        }
    ).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {plan.key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def load(plan: Plan) -> Result:
    """Ask for the plan's seconds.

    Raises:
        RuntimeError: an answer was refused, incomplete or cut off.
    """
    loop = asyncio.get_running_loop()
    failed: asyncio.Future[None] = loop.create_future()
    streams = [_Stream(_request(plan, number), plan.tokens, failed) for number in range(plan.streams)]
    for stream in streams:
        await loop.create_connection(lambda stream=stream: stream, "127.0.0.1", plan.port)  # type: ignore[misc]
    await _pass(plan.warm_seconds, failed)
    before = sum(stream.frames for stream in streams), sum(stream.requests for stream in streams)
    for stream in streams:
        stream.first.clear()
    began, cpu = time.perf_counter(), _cpu_seconds()
    await _pass(plan.seconds, failed)
    seconds, cpu = time.perf_counter() - began, _cpu_seconds() - cpu
    first = sorted(value for stream in streams for value in stream.first)
    return Result(
        requests=sum(stream.requests for stream in streams) - before[1],
        frames=sum(stream.frames for stream in streams) - before[0],
        seconds=round(seconds, 3),
        cpu_seconds=round(cpu, 3),
        first_frame_ms=(_milliseconds(first, 0.5), _milliseconds(first, 0.99)),
    )


async def _pass(seconds: float, failed: "asyncio.Future[None]") -> None:
    await asyncio.wait((failed,), timeout=seconds)
    if failed.done():
        failed.result()


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _milliseconds(ordered: list[float], share: float) -> float:
    return round(ordered[int(share * (len(ordered) - 1))] * 1000, 2) if ordered else 0.0


if __name__ == "__main__":
    print(msgspec.json.encode(uvloop.run(load(msgspec.json.decode(sys.argv[1], type=Plan)))).decode())
