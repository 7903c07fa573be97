"""Ask a running server how it is."""

import http.client
import socket
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from services.server.readiness import Readiness

_SECONDS = 5


class NoAnswer(Exception):
    """The server does not answer; the message says where it was asked."""


class _PrivateConnection(http.client.HTTPConnection):
    """HTTP over the private socket: the server may have no network, and a key is not needed."""

    def __init__(self, path: Path) -> None:
        super().__init__("server", timeout=_SECONDS)
        self._path = path

    def connect(self) -> None:
        """Open it."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(_SECONDS)
        self.sock.connect(str(self._path))


def ask(private: Path) -> tuple[bool, Readiness]:
    """The answer of ``/readyz`` on the private socket, and whether it is ready and apps reach it.

    Raises:
        NoAnswer: nothing listens there, or something else does.
    """
    connection = _PrivateConnection(private)
    try:
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        readiness = msgspec.json.decode(response.read(), type=Readiness)
    except (OSError, http.client.HTTPException, msgspec.DecodeError) as error:
        raise NoAnswer(f"no server answers on {private}: {error}; start one with `make up`") from error
    finally:
        connection.close()
    return response.status == http.HTTPStatus.OK and readiness.unreachable is None, readiness


def show(readiness: Readiness, console: Console) -> None:
    """Print it for people."""
    console.print(f"[bold]{readiness.status}[/bold]  base {readiness.base}  engine {readiness.engine}")
    table = Table("adapter", "serving", "wanted", "loaded", "canary")
    for name, adapter in (readiness.adapters or {}).items():
        table.add_row(
            name, adapter.serving or "-", adapter.wanted or "-", ", ".join(adapter.loaded) or "-", adapter.canary or "-"
        )
    if readiness.adapters:
        console.print(table)
    for problem in readiness.problems or []:
        console.print(f"! {problem}", style="red", highlight=False, markup=False)
