"""Requests on raw connections that are used again; a client that parses every frame would be the limit of what is measured."""

import asyncio
import json
import re
import time
from typing import Any

import msgspec

_OK = 200
_STATUS = slice(9, 12)  # of HTTP/1.1 200
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_DONE = b"data: [DONE]\n\n"
_LAST_CHUNK = b"0\r\n\r\n"
_TAIL = 64


def request(method: str, path: str, key: str, body: dict[str, Any] | None = None) -> bytes:
    """One request as it goes over the wire, on a connection that stays open."""
    raw = b"" if body is None else json.dumps(body).encode()
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n"
    if raw:
        head += f"Content-Type: application/json\r\nContent-Length: {len(raw)}\r\n"
    return head.encode() + b"\r\n" + raw


class Answer(msgspec.Struct, frozen=True):
    """What came for one request.

    Attributes:
        status: of HTTP; 0 where nothing came.
        began: when its first byte came, in seconds of the machine's clock.
        is_whole: whether it came to its end; a stream's is ``[DONE]``.
    """

    status: int
    began: float
    is_whole: bool


class Line(asyncio.Protocol):
    """One connection, with one request at a time: a stream, or an answer with a length.

    Attributes:
        is_open: whether the server has not closed it.
    """

    def __init__(self) -> None:
        self.is_open = True
        self._transport: Any = None  # uvloop's is no asyncio.Transport
        self._said = b""  # of a stream its last bytes
        self._status = 0
        self._began = 0.0
        self._answer: asyncio.Future[Answer] | None = None

    async def ask(self, asked: bytes) -> Answer:
        """Send a request and wait for the end of its answer, or of the connection."""
        self._said, self._status = b"", 0
        self._answer = asyncio.get_running_loop().create_future()
        if self.is_open:
            self._transport.write(asked)
        else:
            self._end(is_whole=False)
        return await self._answer

    def close(self) -> None:
        """Hang up."""
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """As asyncio tells it."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """A part of the answer."""
        if not self._status:
            self._began = time.monotonic()
            self._status = int(data[_STATUS])
        said = self._said + data
        if self._status == _OK:
            self._said = said[-_TAIL:]
            if said.endswith(_LAST_CHUNK):
                self._end(is_whole=_DONE in self._said)
        else:
            self._said = said
            head, _, body = said.partition(b"\r\n\r\n")
            length = _LENGTH.search(head)
            if length and len(body) == int(length[1]):
                self._end(is_whole=True)

    def connection_lost(self, exc: Exception | None) -> None:
        """By whomever."""
        del exc
        self.is_open = False
        self._end(is_whole=False)

    def _end(self, *, is_whole: bool) -> None:
        if self._answer and not self._answer.done():
            self._answer.set_result(Answer(self._status, self._began, is_whole))


class Lines:
    """As many connections as are needed at once.

    Args:
        port: of the server, on loopback.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[Line] = []

    async def take(self) -> Line:
        """One that nobody uses."""
        while self._idle:
            line = self._idle.pop()
            if line.is_open:
                return line
        _, line = await asyncio.get_running_loop().create_connection(Line, "127.0.0.1", self._port)
        return line

    def give(self, line: Line) -> None:
        """Back, after its answer."""
        self._idle.append(line)

    def close(self) -> None:
        """Hang up those that nobody uses."""
        for line in self._idle:
            line.close()
        self._idle.clear()
