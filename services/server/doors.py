"""Where the server listens: the port for apps, and a private socket for the operator's own tools, such as the gate."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import uvicorn
from litestar.types import ASGIApp

from services.server.auth import OperatorsDoor
from services.server.errors import StartRefused
from services.server.settings import Listen

_CONNECTIONS_CLOSE_SECONDS = 5
_BACKLOG = 2048
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
        self._port = _bind(listen.host, listen.port)
        self._public = _Listener(_configuration(app))
        self._private = _Listener(_configuration(OperatorsDoor(app), private))

    async def serve(self) -> None:
        """Listen until ``close``; a listener that ends by itself ends both."""
        tasks = [
            asyncio.create_task(self._public.serve(sockets=[self._port])),
            asyncio.create_task(self._private.serve()),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.close()
            await asyncio.gather(*tasks)

    def close(self) -> None:
        """Stop listening, let answers end."""
        self._public.should_exit = self._private.should_exit = True


def _configuration(app: ASGIApp, private: Path | None = None) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        uds=str(private) if private else None,
        http="httptools",
        loop="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_CONNECTIONS_CLOSE_SECONDS,
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
        private.parent.chmod(_PRIVATE)  # whoever made it: uvicorn lets everyone at the socket itself
        private.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as trial:  # here, where the reason can be told, and not inside uvicorn
            trial.bind(str(private))
        private.unlink()
    except OSError as error:
        raise StartRefused(
            f"cannot make the private socket {private}: {error.strerror or error}; "
            "its folder must belong to the server's user, and the path shorter than 108 bytes"
        ) from error


class _Listener(uvicorn.Server):
    """uvicorn without its signal handlers: a signal first drains, with the socket still open for 503s."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to ``serve``."""
        yield
