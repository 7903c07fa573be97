"""``python -m services.server``: what ``status`` shows of a server, and what ``--help`` lists."""

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from services.registry.pointer import promote
from services.server.__main__ import main
from services.server.readiness import AdapterReadiness, Readiness
from services.server.status import show
from tests.unit.server.harness import Server, publish_version

CONFIG = Path(__file__).resolve().parents[3] / "config"
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


@contextmanager
def _answering(status: int, body: bytes) -> Iterator[list[str]]:
    """A server that answers everything so; its settings as arguments."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the name that http.server calls
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield ["--set", "server.host=0.0.0.0", "--set", f"server.port={server.server_port}"]
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHETSTONE_CONFIG", str(CONFIG))
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


def test_a_reason_is_shown_as_it_is() -> None:
    """Brackets in it are text, not the terminal's markup; a server without adapters shows no table."""
    assert "! acme@2: damaged [here]" in _shown(DEGRADED)
    assert "adapter" not in _shown(Readiness(status="starting", base="tiny", engine="starting"))


@pytest.mark.parametrize(("code", "exits"), [(200, 0), (503, 1)])
def test_status_asks_the_running_server(code: int, exits: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 0 where it is ready, for the healthcheck; for people and as JSON."""
    with _answering(code, msgspec.json.encode(DEGRADED)) as where:
        assert main(["status", *where]) == exits
        assert "! acme@2: damaged [here]" in capsys.readouterr().out
        assert main(["status", "--json", *where]) == exits
        assert msgspec.json.decode(capsys.readouterr().out, type=Readiness) == DEGRADED


def test_status_of_something_else_or_nothing_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 1 and the remedy."""
    with _answering(200, b"<html>") as where:
        assert main(["status", *where]) == 1
        assert "make up" in capsys.readouterr().err
    assert main(["status", *where]) == 1
    assert "no server answers on 127.0.0.1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("verb", "words"),
    [
        ([], ("serve", "status", "key")),
        (["serve"], ("--set", "--json-logs")),
        (["status"], ("--set", "--json")),
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
