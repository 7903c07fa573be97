"""The door itself: one port, lent to one server at a time."""

import asyncio
import json
import socket
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from services.common.private_socket import listen_privately
from services.door.loan import SAYS, TAKEN, lent, listens, peer
from services.door.unavailable import Unavailable

_WAITING_CLIENTS = 2048
_WAITING_SERVERS = 8
_DEFER_SECONDS = 1  # or once so long has passed
_FIRST_SECONDS = (
    2.0  # a server that outlived the door before asks within less: its clients wait for it, and are not sent away
)
_PRIVATE = 0o600


class Door:
    """Binds a port and lends it to whoever of ``user`` asks first, until that one hangs up.

    The port always listens. While it is lent its clients are the server's; else the door says 503 to them (docs/decisions/0100).

    Args:
        host: the address to bind.
        port: likewise.
        path: of the socket where servers ask; its folder is made, and what a killed door left there is replaced.
        user: whose processes may ask.

    Raises:
        OSError: either cannot be bound.
    """

    def __init__(self, host: str, port: int, path: Path, user: int) -> None:
        self._port = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        self._port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # A client is let in once it has sent something: a server that stops would close on one that has not, unheard.
        self._port.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, _DEFER_SECONDS)
        self._port.bind((host, port))
        self._asking = listen_privately(path, _WAITING_SERVERS)
        path.chmod(_PRIVATE)
        self._user = user
        self._port.listen(_WAITING_CLIENTS)
        self._port.setblocking(False)

    def run(self) -> None:
        """Lend until the process ends.

        Raises:
            OSError: a server has made something else of the port.
        """
        asyncio.run(self._run())

    async def _run(self) -> None:
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        lending = _Lending(self._port, self._asking, self._user, over)
        lending.begin()
        say("door open", port=self._port.getsockname()[1])
        await over


class _Lending:
    """Who has the port. All of it happens in callbacks, none of which waits: no client is between door and server.

    Args:
        over: where what ends the door is put.
    """

    def __init__(self, port: socket.socket, asking: socket.socket, user: int, over: "asyncio.Future[None]") -> None:
        self._port = port
        self._asking = asking
        self._user = user
        self._over = over
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(lambda _, context: self._end(context.get("exception") or RuntimeError()))
        self._unavailable = Unavailable(port, self._end)
        self._server: socket.socket | None = None  # who has it

    def begin(self) -> None:
        """Answer clients and servers."""
        self._loop.add_reader(self._asking, self._answer)
        self._loop.call_later(_FIRST_SECONDS, self._begin)

    def _begin(self) -> None:
        if self._server is None:
            self._unavailable.begin()

    def _end(self, error: BaseException) -> None:
        if not self._over.done():
            self._over.set_exception(error)

    def _answer(self) -> None:
        while self._server is not None and self._hear(self._server):
            pass  # first: a server that was started again asks as soon as the one before is gone
        asking, _ = self._asking.accept()
        asking.setblocking(False)
        if peer(asking) != self._user:
            say("refused", user=peer(asking))
            asking.close()
        elif self._server is not None:
            _tell(asking, TAKEN)
            asking.close()
        else:
            self._lend(asking)

    def _lend(self, asking: socket.socket) -> None:
        self._unavailable.pause()
        self._server = asking
        if _tell(asking, lent(self._unavailable.start_seconds), self._port.fileno()):
            say("port lent")
            self._loop.add_reader(asking, self._hear, asking)
        else:
            self._take_back(asking)

    def _hear(self, server: socket.socket) -> bool:
        """Whether it said something: how long its start took. Its end, or anything else, ends its turn."""
        try:
            said = server.recv(SAYS.size)
        except BlockingIOError:
            return False
        except OSError:
            said = b""
        if len(said) == SAYS.size:
            [self._unavailable.start_seconds] = SAYS.unpack(said)
        else:
            self._take_back(server)
        return True

    def _take_back(self, server: socket.socket) -> None:
        """Whose turn is next is asked anew."""
        self._loop.remove_reader(server)
        server.close()
        self._server = None
        if not listens(self._port):
            self._end(OSError(0, "it does not listen any more"))
            return
        self._port.setblocking(False)  # whatever the server made of it
        self._unavailable.begin()
        say("port taken back")


def say(event: str, **facts: Any) -> None:
    """One line of the container's log, as the server writes its own."""
    line = facts | {"event": event, "level": "info", "timestamp": datetime.now(UTC).isoformat()}
    sys.stderr.write(json.dumps(line) + "\n")


def _tell(asking: socket.socket, words: bytes, *sockets: int) -> bool:
    """Whether it was still there to be told."""
    try:
        return socket.send_fds(asking, [words], sockets) == len(words)
    except OSError:
        return False
