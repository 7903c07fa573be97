"""Ask a running server how it is."""

import http.client
import ipaddress

import msgspec
from rich.console import Console
from rich.table import Table

from services.server.readiness import Readiness
from services.server.settings import Listen

_SECONDS = 5


class NoAnswer(Exception):
    """The server does not answer; the message says where it was asked."""


def ask(listen: Listen) -> tuple[bool, Readiness]:
    """The answer of ``/readyz``, and whether it is ready.

    Raises:
        NoAnswer: nothing listens there, or something else does.
    """
    host = "127.0.0.1" if _is_any(listen.host) else listen.host
    connection = http.client.HTTPConnection(host, listen.port, timeout=_SECONDS)
    try:
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        return response.status == http.HTTPStatus.OK, msgspec.json.decode(response.read(), type=Readiness)
    except (OSError, http.client.HTTPException, msgspec.DecodeError) as error:
        raise NoAnswer(f"no server answers on {host}:{listen.port}: {error}; start one with `make up`") from error
    finally:
        connection.close()


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


def _is_any(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False
