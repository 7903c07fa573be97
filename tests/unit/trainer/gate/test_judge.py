"""The judge and a server that stands in for ours: it waits until the alias leads to what was promoted, and stops when it is asked to."""

import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer
from types import SimpleNamespace
from typing import NoReturn, cast

import pytest
from rich.console import Console

from services.common.settings import load
from services.dataset.prepare import Prepared
from services.registry.layout import Registry
from services.registry.reports import read_judgement, report_file
from services.trainer.gate.client import VersionNotServed
from services.trainer.gate.judge import ServerJudge
from services.trainer.gate.settings import GateSettings
from tests.support.adapters import publish_adapter
from tests.unit.trainer.house import CONFIG


class Readiness(ThreadingUnixStreamServer):
    """Answers /readyz; the alias ``acme`` leads to the next of ``serving`` at each question, to the last for ever."""

    daemon_threads = True

    def __init__(self, socket: Path, serving: list[str]) -> None:
        self.serving = serving
        self.asked = 0
        super().__init__(str(socket), _Answer)


class _Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, Readiness)
        serving = server.serving[min(server.asked, len(server.serving) - 1)]
        server.asked += 1
        adapters = {"acme": {"serving": serving, "loaded": [serving], "refused": {}}}
        body = json.dumps({"status": "ready", "base": "tiny-base", "adapters": adapters}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def socket(tmp_path: Path) -> Path:
    return tmp_path / "server.sock"


@pytest.fixture
def serve(socket: Path) -> Iterator[Callable[..., Readiness]]:
    """Start a server whose alias leads to one version after the other."""
    started: list[Readiness] = []

    def start(*serving: str) -> Readiness:
        server = Readiness(socket, list(serving))
        started.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        return server

    yield start
    for server in started:
        server.shutdown()
        server.server_close()


def judge(socket: Path, *, load_seconds: float = 20.0, stopped: bool = False) -> ServerJudge:
    settings = load("gate", GateSettings, [f"gate.load_seconds={load_seconds}"], folder=CONFIG)
    return ServerJudge(settings, socket, Console(file=io.StringIO()), lambda: stopped)


def test_it_waits_until_the_alias_leads_to_the_version(socket: Path, serve: Callable[..., Readiness]) -> None:
    """So that what a job names is what an app gets, from the first request on."""
    server = serve("acme@1", "acme@1", "acme@2")
    assert judge(socket).follows("acme", 2) is None
    assert server.asked == 3


def test_a_server_that_does_not_follow_is_waited_for_no_longer_than_the_setting_says(
    socket: Path, serve: Callable[..., Readiness]
) -> None:
    serve("acme@1")
    assert judge(socket, load_seconds=0.3).follows("acme", 2) == (
        "acme does not lead to acme@2 within gate.load_seconds = 0.3; `make status` says why"
    )


def test_without_a_server_it_says_so_at_once(socket: Path) -> None:
    assert "no server answers" in (judge(socket).follows("acme", 2) or "")


def test_a_request_to_stop_ends_the_waiting(socket: Path, serve: Callable[..., Readiness]) -> None:
    """Within a second, though the server may yet follow."""
    serve("acme@1")
    begun = time.monotonic()
    assert judge(socket, stopped=True).follows("acme", 2) == "judging was interrupted"
    assert time.monotonic() - begun < 5


def test_what_was_found_is_kept_beside_the_version(
    tmp_path: Path, socket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a promotion, which reads the verdict, and for people, as a page; here of a version that no server would serve."""
    registry = Registry(tmp_path / "registry")
    publish_adapter(registry)

    async def refused(*_: object) -> NoReturn:
        raise VersionNotServed("its rank is over engine.max_lora_rank")

    monkeypatch.setattr(ServerJudge, "_ask", refused)
    monkeypatch.setattr("services.trainer.gate.judge.questions_of", lambda *_: None)
    rows = cast("Prepared", SimpleNamespace(holdout_rows=[], holdout=[], tokenizer=None))
    judge(socket)(registry, "acme", 1, rows)
    found = read_judgement(registry, "acme", 1)
    assert found is not None
    assert found.reasons == ["its rank is over engine.max_lora_rank"]
    assert found.reasons[0] in report_file(registry, "acme", 1, "html").read_text()
