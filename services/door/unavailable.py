"""What clients are told while no server has the port: 503, whatever they ask, and when to ask again."""

import asyncio
import contextlib
import json
import socket
from collections.abc import Callable

from services.common.retrying import SERVICE_SECONDS, retry_headers, until_ready

CLIENTS = 256  # at once; more wait in the port's queue
_SECONDS = 10.0
_HEAD_BYTES = 65536
_BODY_BYTES = 2**23  # thrown away after the answer, which a client that still sends has not read yet
_AT_ONCE = 65536
_BODY = json.dumps(
    {
        "error": {
            "message": "The server is away for a moment: it is started again.",
            "type": "server_error",
            "param": None,
            "code": "service_unavailable",
        }
    }
).encode()


class Unavailable:
    """Answers clients of a listening port, between ``begin`` and ``pause``. Nothing of what they say is kept, said or passed on.

    Args:
        port: the port; nothing may block on it.
        lost: called where it listens no more.
        seconds: that a client has, from being let in.

    Attributes:
        start_seconds: how long a server's start takes here; 0 where nobody knows.
    """

    def __init__(self, port: socket.socket, lost: Callable[[OSError], None], *, seconds: float = _SECONDS) -> None:
        self.start_seconds = 0
        self._port = port
        self._lost = lost
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._begun = False
        self._answering: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        """Its number."""
        return int(self._port.getsockname()[1])

    def begin(self) -> None:
        """Let clients in."""
        self._begun = True
        self._loop.add_reader(self._port, self._let_in)

    def pause(self) -> None:
        """Let nobody in any more. Whoever is in is answered all the same; whoever waits is the server's."""
        self._begun = False
        self._loop.remove_reader(self._port)

    def _let_in(self) -> None:
        try:
            client, _ = self._port.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return  # left meanwhile
        except OSError as error:
            self.pause()
            self._lost(error)
            return
        client.setblocking(False)
        task = self._loop.create_task(self._answer(client))
        self._answering.add(task)
        task.add_done_callback(self._left)
        if len(self._answering) == CLIENTS:
            self._loop.remove_reader(self._port)

    def _left(self, task: "asyncio.Task[None]") -> None:
        self._answering.discard(task)
        if self._begun:
            self._loop.add_reader(self._port, self._let_in)

    async def _answer(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):  # a client that is too slow, or leaves
            async with asyncio.timeout(self._seconds):
                head = await self._head(client)
                await self._loop.sock_sendall(client, self._answer_to(head))
                client.shutdown(socket.SHUT_WR)
                # Closed with bytes unread, the connection would be reset, and the answer lost on its way.
                left = _BODY_BYTES
                while left > 0 and (thrown := await self._loop.sock_recv(client, _AT_ONCE)):
                    left -= len(thrown)

    async def _head(self, client: socket.socket) -> bytes:
        """At least a request's head, or as much of it as is let be.

        Raises:
            OSError: it ended before.
        """
        head = bytearray()
        seen = 0
        while head.find(b"\r\n\r\n", seen) < 0 and len(head) < _HEAD_BYTES:
            seen = max(0, len(head) - 3)
            if not (more := await self._loop.sock_recv(client, _AT_ONCE)):
                raise ConnectionError
            head += more
        return bytes(head)

    def _answer_to(self, head: bytes) -> bytes:
        retry = retry_headers(until_ready(self.start_seconds), SERVICE_SECONDS)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(_BODY)),
            (b"connection", b"close"),
            *retry,
        ]
        lines = [b"HTTP/1.1 503 Service Unavailable", *(b"%s: %s" % header for header in headers), b"", b""]
        return b"\r\n".join(lines) + (b"" if head.startswith(b"HEAD ") else _BODY)
