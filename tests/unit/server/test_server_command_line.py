"""``python -m services.server``: what ``status`` shows of a server, and what ``--help`` lists."""

import io
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from services.common.paths import DataPaths
from services.registry.pointer import promote
from services.server.__main__ import main
from services.server.readiness import AdapterReadiness, Readiness
from services.server.status import show
from tests.unit.server.harness import Server, publish_version

DEGRADED = Readiness(
    status="degraded",
    base="tiny",
    engine="running",
    adapters={
        "acme": AdapterReadiness(
            wanted="acme@2", serving="acme@1", loaded=["acme@1"], refused={"acme@2": "damaged [here]"}, problem=None
        )
    },
    problems=["acme@2: damaged [here]"],
)


def _shown(readiness: Readiness) -> str:
    sink = io.StringIO()
    show(readiness, Console(file=sink, width=200))
    return sink.getvalue()


class _OnPrivateSocket(HTTPServer):
    address_family = socket.AF_UNIX

    def server_bind(self) -> None:
        self.socket.bind(self.server_address)  # as the base class, without a look at its host's name

    def get_request(self) -> tuple[socket.socket, Any]:
        return super().get_request()[0], ("", 0)


@contextmanager
def _answering(root: Path, status: int, body: bytes) -> Iterator[None]:
    """A server on the private socket below ``root`` that answers everything so."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the name that http.server calls
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    path = DataPaths(root).server_socket
    path.parent.mkdir()
    with _OnPrivateSocket(str(path), Handler) as server:  # type: ignore[arg-type]  # a path is its address
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WHETSTONE_DATA", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")


async def test_status_shows_why_a_version_was_refused(server: Server) -> None:
    """What /readyz knows of a real refusal reaches the operator's screen: the version, the reason, what serves meanwhile."""
    publish_version(server.registry)
    promote(server.registry, "acme", 1)
    await server.reconcile()
    publish_version(server.registry, fingerprint="0" * 64)
    promote(server.registry, "acme", 2)
    await server.reconcile()
    shown = _shown(msgspec.json.decode((await server.ask("/readyz")).body, type=Readiness))
    assert "! acme@2: trained on another base model" in shown
    assert ["acme", "acme@1", "acme@2", "acme@1", "-"] in [
        line.replace("│", " ").split() for line in shown.splitlines()
    ]
    assert "degraded  base tiny  engine running" in shown


def test_the_healthcheck_brings_no_library_of_a_database() -> None:
    """It is a process every few seconds beside an engine that needs the cores: loading those would take most of its time."""
    loaded = "import sys, services.server.__main__; print(*{'sqlalchemy', 'alembic', 'litestar', 'vllm', 'uvloop'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", loaded], check=True, capture_output=True, text=True)
    assert done.stdout == "\n"


def test_a_reason_is_shown_as_it_is() -> None:
    """Brackets in it are text, not the terminal's markup; a server without adapters shows no table."""
    assert "! acme@2: damaged [here]" in _shown(DEGRADED)
    assert "adapter" not in _shown(Readiness(status="starting", base="tiny", engine="starting"))


@pytest.mark.parametrize(("code", "exits"), [(200, 0), (503, 1)])
def test_status_asks_the_running_server(
    code: int, exits: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the private socket. Exit code 0 where it is ready, for the healthcheck; for people and as JSON."""
    with _answering(tmp_path, code, msgspec.json.encode(DEGRADED)):
        assert main(["status"]) == exits
        assert "! acme@2: damaged [here]" in capsys.readouterr().out
        assert main(["status", "--json"]) == exits
        assert msgspec.json.decode(capsys.readouterr().out, type=Readiness) == DEGRADED


def test_status_of_something_else_or_nothing_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1 and the remedy."""
    with _answering(tmp_path, 200, b"<html>"):
        assert main(["status"]) == 1
        assert "make up" in capsys.readouterr().err
    assert main(["status"]) == 1
    assert f"no server answers on {tmp_path}/run/server.sock" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("verb", "words"),
    [
        ([], ("serve", "status", "key")),
        (["serve"], ("--set", "--json-logs")),
        (["status"], ("--json",)),
        (["key"], ("add", "list", "rotate", "revoke")),
        (["key", "add"], ("name", "--models", "--roles", "--rpm", "--tpm", "--expires")),
        (["key", "list"], ("--json",)),
        (["key", "rotate"], ("name", "--grace", "--expires")),
        (["key", "revoke"], ("name",)),
    ],
)
def test_help_lists_what_there_is(verb: list[str], words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """For the command and for each of its verbs, without an engine."""
    with pytest.raises(SystemExit) as ended:
        main([*verb, "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert all(word in shown for word in words)
