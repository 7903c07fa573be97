"""Where the server listens: the port for apps, and a private socket for the operator's own tools, such as the gate.

HTTP is Granian's: sockets are read and written in threads of its own, which do not hold Python's lock (docs/decisions/0092).
"""

import asyncio
import socket
from pathlib import Path
from typing import Any

from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.server.embed import Server
from litestar.types import ASGIApp

from services.server.auth import OperatorsDoor
from services.server.errors import StartRefused
from services.server.settings import Listen

_CONNECTIONS = 4096  # open at once; the admission of requests is far below
_BACKLOG = 2048
_BUFFER_BYTES = 65_536  # of a connection: its request's head, and what its client has not read yet
_HEAD_MILLISECONDS = 30_000  # for a request's head; a connection that idles so long is closed
_WRITING_THREADS = 2
_PRIVATE = 0o700


class Doors:
    """The listeners of one process; both lead to the same application.

    Args:
        app: the application.
        listen: address and port for apps.
        private: the private socket's path; its folder is made where missing.

    Raises:
        StartRefused: the port is taken, or the socket cannot be made.
    """

    def __init__(self, app: ASGIApp, listen: Listen, private: Path) -> None:
        _make_way(private)
        host = "127.0.0.1" if listen.host == "localhost" else listen.host
        self._port = _bind(host, listen.port)
        self._servers = (
            _server(app, address=host, port=listen.port, runtime_threads=_WRITING_THREADS),
            _server(OperatorsDoor(app), uds=private),
        )

    async def serve(self) -> None:
        """Listen until ``close``; a listener that ends by itself ends both."""
        self._port.close()  # held until here, so that nobody else has it
        tasks = [asyncio.create_task(server.serve()) for server in self._servers]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.close()
            await asyncio.gather(*tasks)

    def close(self) -> None:
        """Stop listening, let answers end."""
        for server in self._servers:
            server.stop()  # type: ignore[no-untyped-call]


def _server(app: ASGIApp, **where: Any) -> Server:
    return Server(
        app,
        interface=Interfaces.ASGINL,
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(header_read_timeout=_HEAD_MILLISECONDS, max_buffer_size=_BUFFER_BYTES),
        backlog=_BACKLOG,
        backpressure=_CONNECTIONS,
        websockets=False,
        log_enabled=False,
        **where,
    )


def _bind(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=_BACKLOG
        )
    except OSError as error:
        raise StartRefused(
            f"cannot listen on {host}:{port}: {error.strerror}; set server.host and server.port"
        ) from error


def _make_way(private: Path) -> None:
    """Make the socket's folder, for this user alone, and remove what a killed server left; the last server to start has it."""
    try:
        private.parent.mkdir(parents=True, exist_ok=True)
        private.parent.chmod(_PRIVATE)  # whoever made it
        private.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as trial:  # here, where the reason can be told, and not inside the server
            trial.bind(str(private))
        private.unlink()
    except OSError as error:
        raise StartRefused(
            f"cannot make the private socket {private}: {error.strerror or error}; "
            "its folder must belong to the server's user, and the path shorter than 108 bytes"
        ) from error
