"""Where the server listens: the port for apps, its own or the door's, and a private socket for the gate and for `make status`.

HTTP is Granian's: sockets are read and written in threads of its own, which do not hold Python's lock (docs/decisions/0092).
"""

import asyncio
import socket
from functools import partial
from pathlib import Path
from typing import Any

import structlog
from granian._granian import SocketHolder
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.server.embed import Server
from litestar.types import ASGIApp

from services.common.private_socket import listen_privately
from services.server.auth import PrivateDoor
from services.server.errors import StartRefused
from services.server.lent import LentPort
from services.server.open_files import make_room
from services.server.settings import Limits, Listen

log = structlog.get_logger(__name__)

_OWN_CONNECTIONS = 256  # of the gate, and of who asks how the server is
_BACKLOG = 2048
_CLOSE_SECONDS = 5  # for clients to read the ends of their answers
_WRITING_THREADS = 2
_MILLISECONDS = 1000


class Doors:
    """The listeners of one process; both lead to the same application.

    Clients are let in as soon as it is made, and wait until ``serve``.

    Args:
        app: the application.
        listen: address and port for apps, or the door that lends one.
        limits: of connections.
        private: the private socket's path; its folder is made where missing.

    Raises:
        StartRefused: the port is taken, or the socket cannot be made.
    """

    def __init__(self, app: ASGIApp, listen: Listen, limits: Limits, private: Path) -> None:
        room = make_room(limits.max_connections + _OWN_CONNECTIONS)
        others = min(_OWN_CONNECTIONS, room // 2)
        if (apps := room - others) < limits.max_connections:
            log.warning("few connections", apps=apps, reason="the hard limit of open files (ulimit -Hn) is low")
        listener = partial(_Listener, app, limits, backpressure=apps, runtime_threads=_WRITING_THREADS)
        # The port first: who has it also has the private socket, which another may not take away.
        self._port = LentPort(Path(listen.door), listener) if listen.door else listener(_bind(listen))
        try:
            own = _bind_private(private)
        except StartRefused:
            self._port.close()
            raise
        self._listeners = (self._port, _Listener(PrivateDoor(app), limits, own, backpressure=others, uds=private))

    @property
    def unreachable(self) -> str | None:
        """Why no app reaches the server, though it listens; None while they do."""
        return self._port.unreachable if isinstance(self._port, LentPort) else None

    @property
    def start_seconds(self) -> int:
        """How long the start of the server before took, as the door says; 0 where nobody knows."""
        return self._port.start_seconds if isinstance(self._port, LentPort) else 0

    def started(self, seconds: int) -> None:
        """Let the door know how long this start took."""
        if isinstance(self._port, LentPort):
            self._port.started(seconds)

    async def serve(self) -> None:
        """Listen until ``close``; a listener that ends by itself ends both."""
        tasks = [asyncio.create_task(listener.serve()) for listener in self._listeners]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.close()
            ended, hanging = await asyncio.wait(tasks, timeout=_CLOSE_SECONDS)
            if hanging:
                log.warning("connections left open", reason="their clients do not read")
            for task in hanging:
                task.cancel()
            await asyncio.gather(*ended)

    def close(self) -> None:
        """Stop listening, let answers end."""
        for listener in self._listeners:
            listener.stop()


class _Listener(Server):
    """Granian on a socket that listens already.

    Its own would be bound when it begins to serve, with SO_REUSEPORT: a second server could share the port unnoticed, and clients
    were refused until then.
    """

    def __init__(self, app: ASGIApp, limits: Limits, held: socket.socket, **options: Any) -> None:
        super().__init__(
            app,
            interface=Interfaces.ASGINL,
            http=HTTPModes.http1,
            http1_settings=HTTP1Settings(
                header_read_timeout=int(limits.head_seconds * _MILLISECONDS), max_buffer_size=limits.max_head_bytes
            ),
            backlog=_BACKLOG,
            websockets=False,
            log_enabled=False,
            **options,
        )
        self._held = held
        if held.family != socket.AF_UNIX:
            # Its connections have both, too. No token waits for the next:
            held.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # The kernel ends one whose client takes nothing, and the application hears of it as of a client that left.
            unread = int(limits.unread_seconds * _MILLISECONDS)
            held.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, unread)

    def close(self) -> None:
        """Give up a socket that was never served."""
        self._held.close()

    def _init_shared_socket(self) -> None:
        uds = self._held.family == socket.AF_UNIX
        make: Any = SocketHolder  # of Linux; its types are another system's
        self._shd = make(self._held.detach(), uds, _BACKLOG)


def _bind(listen: Listen) -> socket.socket:
    host, port = listen.host, listen.port
    try:
        return socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=_BACKLOG
        )
    except OSError as error:
        raise StartRefused(
            f"cannot listen on {host}:{port}: {error.strerror}; set server.host and server.port"
        ) from error


def _bind_private(path: Path) -> socket.socket:
    try:
        return listen_privately(path, _BACKLOG)
    except OSError as error:
        raise StartRefused(
            f"cannot make the private socket {path}: {error.strerror or error}; "
            "its folder must belong to the server's user, and the path shorter than 108 bytes"
        ) from error
