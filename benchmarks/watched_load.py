"""Streams that note when each token came and whose it was; one process. For ``benchmarks.swaps`` and ``benchmarks.serving``.

python -m benchmarks.watched_load PLAN        until SIGTERM; writes what it saw
"""

import asyncio
import contextlib
import json
import re
import signal
import subprocess
import sys
import time
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import msgspec
import numpy as np
import uvloop

from benchmarks.machine import REPOSITORY, environment

_FRAME = b'"delta":{"content":'
_END = b"0\r\n\r\n"
_VERSION = re.compile(rb'"model":"[^"@]*@(\d+)"')
_CONTENT = re.compile(rb'"delta":\{"content":("(?:[^"\\]|\\.)*")')


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One load.

    Attributes:
        port: of the server, on loopback.
        key: the API key.
        model: what is asked.
        question: of every request.
        answers: what a version's answer begins with: the first of odd versions, the second of even ones.
        streams: connections, each of which asks again once it is answered.
        tokens: of an answer.
        out: where to write what was seen, without the suffix.
    """

    port: int
    key: str
    model: str
    question: str
    answers: list[str]
    streams: int
    tokens: int
    out: str


class Answered(msgspec.Struct, frozen=True):
    """One whole answer: its version, and when its first token came, in seconds of the machine's clock."""

    version: int
    first_token: float


class Watched(msgspec.Struct, kw_only=True):
    """What one load saw.

    Attributes:
        began: seconds of the machine's clock.
        answers: each that was whole.
        faults: what was wrong, an answer each.
        ends: when each gap between two reads of one answer ended, shape (gaps,), seconds of the machine's clock.
        gaps: how long it was, shape (gaps,), seconds.
    """

    began: float
    answers: list[Answered]
    faults: list[str]
    ends: Any = None
    gaps: Any = None

    def write(self, out: Path) -> None:
        """Write both files of it."""
        np.savez(out.with_suffix(".npz"), ends=np.asarray(self.ends), gaps=np.asarray(self.gaps))
        out.with_suffix(".json").write_bytes(msgspec.json.encode(msgspec.structs.replace(self, ends=None, gaps=None)))

    @classmethod
    def read(cls, out: Path) -> Self:
        """What ``write`` wrote."""
        watched = msgspec.json.decode(out.with_suffix(".json").read_bytes(), type=cls)
        with np.load(out.with_suffix(".npz")) as arrays:
            return msgspec.structs.replace(watched, ends=arrays["ends"], gaps=arrays["gaps"])


@contextlib.contextmanager
def asked_beside(plan: Plan) -> Iterator[None]:
    """The load as a process beside; what it saw can be read afterwards."""
    words = [sys.executable, "-m", "benchmarks.watched_load", msgspec.json.encode(plan).decode()]
    load = subprocess.Popen(words, env=environment(), cwd=REPOSITORY)
    try:
        yield
    finally:
        load.terminate()
        load.wait(30)


class _Stream(asyncio.Protocol):
    """One connection."""

    def __init__(self, plan: Plan, request: bytes, watched: Watched) -> None:
        self._plan = plan
        self._request = request
        self._watched = watched
        self._transport: Any = None
        self._read = bytearray()
        self._first: float | None = None
        self._last = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._ask()

    def _ask(self) -> None:
        self._read.clear()
        self._first = None
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        if _FRAME in data:
            if self._first is None:
                self._first = now
            else:
                self._watched.ends.append(now)
                self._watched.gaps.append(now - self._last)
            self._last = now
        self._read += data
        if data.endswith(_END):
            self._check()
            self._ask()

    def _check(self) -> None:
        read = bytes(self._read)
        versions = {int(number) for number in _VERSION.findall(read)}
        pieces = [json.loads(piece) for piece in _CONTENT.findall(read)]
        if b"data: [DONE]" not in read or len(versions) != 1 or self._first is None:
            self._watched.faults.append(f"versions {sorted(versions)}: {read[:200]!r}")
            return
        (version,) = versions
        if not "".join(pieces).startswith(self._plan.answers[(version - 1) % 2]):
            self._watched.faults.append(f"version {version} said {''.join(pieces)[:60]!r}")
            return
        self._watched.answers.append(Answered(version, self._first))

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None or self._transport.is_closing() is False:
            self._watched.faults.append(f"connection lost: {exc}")


def _request(plan: Plan) -> bytes:
    body = json.dumps(
        {
            "model": plan.model,
            "messages": [{"role": "user", "content": plan.question}],
            "max_tokens": plan.tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
        }
    ).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {plan.key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def watch(plan: Plan) -> None:
    """Ask until SIGTERM."""
    watched = Watched(began=time.monotonic(), answers=[], faults=[], ends=array("d"), gaps=array("d"))
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, over.set)
    request = _request(plan)
    for _ in range(plan.streams):
        await loop.create_connection(lambda: _Stream(plan, request, watched), "127.0.0.1", plan.port)
        await asyncio.sleep(0.01)  # answers that end at different times
    await over.wait()
    watched.write(Path(plan.out))


if __name__ == "__main__":
    uvloop.run(watch(msgspec.json.decode(sys.argv[1], type=Plan)))
