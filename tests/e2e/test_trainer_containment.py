"""The rows stay where they belong: a canary in them is looked for in everything that the trainer's commands write or say.

Real commands, with a real worker on a tiny model; what the gate asks stands in for the server, and answers with the canary.
"""

import json
import re
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer
from typing import Any

import pytest

from services.base_model.identity import BaseModelSettings
from services.base_model.install import install
from services.registry.layout import Registry
from services.registry.reports import read_judgement
from tests.conftest import REPOSITORY, project_environment
from tests.support.tokenizers import byte_tokenizer
from tests.unit.trainer.tiny import TinySource

pytestmark = pytest.mark.e2e
CANARY = "canary4711"
# What holds rows because it is its purpose; docs/operations.md says so, and `make purge` looks there.
BY_DESIGN = (
    "data/datasets/*",
    "data/runs/*/snapshot/*",
    "data/runs/*/rows/*",
    "data/runs/*/holdout/*",
    "data/registry/acme/reports/1.json",
    "data/registry/acme/reports/1.html",
)
SHORT = ["adapter.name=acme", "data.holdout_share=0.3", "recipe.max_length=120", "recipe.max_steps=2"]
SOUND = [
    {
        "system": f"You are {CANARY}.",
        "prompt": f"Who is {CANARY} {number}?",
        "completion": f"{CANARY}, {number}",
        CANARY: CANARY,
        "check": {"contains": CANARY},
    }
    for number in range(20)
]
ODD = [
    SOUND[0],  # a duplicate
    SOUND[1] | {"completion": f"not {CANARY}"},  # a contradiction
    {"prompt": f"Write to {CANARY}@example.com", "completion": f"To {CANARY}@example.com?"},
    {"prompt": f"{CANARY} " * 20, "completion": CANARY},  # too long
]
TURN = {"role": "user", "content": CANARY}
FAULTY: list[Any] = [
    *({"prompt": wrong, "completion": CANARY} for wrong in ([CANARY], {CANARY: CANARY}, [TURN, {CANARY: CANARY}])),
    *({"messages": wrong} for wrong in (CANARY, [CANARY], [TURN], [TURN, TURN], [TURN | {"role": CANARY}])),
    {"messages": [TURN, {"role": "assistant", "content": [{"type": CANARY}]}]},
    {"messages": [TURN, {"role": "assistant", "content": CANARY, "weight": CANARY}]},
    *(SOUND[0] | {"check": wrong} for wrong in (CANARY, {"regex": f"({CANARY}"}, {CANARY: CANARY})),
    SOUND[0] | {"tools": [CANARY]},
    SOUND[0] | {"messages": CANARY},
    {CANARY: CANARY},
    [CANARY],
    CANARY,
]


class _Server(ThreadingUnixStreamServer):
    daemon_threads = True


class _Answers(BaseHTTPRequestHandler):
    """Serves every model that it is asked for; the candidate likes the rows better than the base does."""

    def do_GET(self) -> None:
        adapters = {"acme": {"serving": "acme@1", "loaded": ["acme@1"], "refused": {}}}
        self._send({"status": "ready", "base": "tiny-base", "adapters": adapters})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if "messages" in body:
            message = {"role": "assistant", "content": f"I am {CANARY}."}
            choice: dict[str, Any] = {"message": message, "finish_reason": "stop"}
        else:
            loss = -1.0 if body["model"] == "tiny-base" else -0.5
            choice = {"logprobs": {"token_logprobs": [None, *[loss] * len(body["prompt"])]}}
        self._send({"choices": [choice], "usage": {"completion_tokens": 5}})

    def _send(self, body: Any) -> None:
        content = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class House:
    """A data root, and all that the trainer's commands have said on it."""

    def __init__(self, root: Path) -> None:
        self.root, self.data, self.said = root, root / "data", b""

    def write(self, name: str, rows: list[Any], *more: str) -> None:
        """Put rows among the data, and lines that may be none."""
        lines = [*map(json.dumps, rows), *more]
        (self.data / "datasets" / name).write_text("\n".join(lines), encoding="utf-8")

    def run(self, verb: str, *words: str, program: tuple[str, ...] = ("-m", "services.trainer")) -> int:
        """One of the trainer's commands; its exit code."""
        command = [sys.executable, *program, verb, *words]
        home = {
            "HOME": str(self.root / "home"),
            "TMPDIR": str(self.root / "tmp"),
            "WHETSTONE_CONFIG": str(self.root / "config"),
        }
        environment = project_environment(self.data, **home)
        done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, check=False, timeout=300)
        self.said += done.stdout + done.stderr
        return done.returncode

    def holding(self) -> set[str]:
        """Where the canary is, as text or in tokens: "said", or a file; one of ``BY_DESIGN`` by its pattern."""
        files = {file.relative_to(self.root): file.read_bytes() for file in self.root.rglob("*") if file.is_file()}
        places = {_place(file) for file, content in files.items() if _holds(content)}
        return places | ({"said"} if _holds(self.said) else set())


def _place(file: Path) -> str:
    return next((pattern for pattern in BY_DESIGN if file.match(pattern)), str(file))


def _holds(content: bytes) -> bool:
    ids = byte_tokenizer().encode(CANARY)
    written = re.compile(rb"\D" + rb"\s*,\s*".join(str(token).encode() for token in ids) + rb"\D")
    raw = (CANARY.encode(), *(struct.pack(f"<{len(ids)}{kind}", *ids) for kind in "iq"))
    return any(needle in content for needle in raw) or written.search(content) is not None


@pytest.fixture
def house(tmp_path: Path) -> House:
    """With a tiny base model and rows, every one of which holds the canary."""
    config, data = tmp_path / "config", tmp_path / "data"
    for folder in (config, data / "datasets", tmp_path / "tmp", tmp_path / "home"):
        folder.mkdir(parents=True)
    for name in ("training.toml", "gate.toml"):
        (config / name).write_bytes((REPOSITORY / "config" / name).read_bytes())
    (config / "base.toml").write_text('[base_model]\nname = "tiny-base"\npackage = "tiny"\n')
    (config / "cpu").mkdir()
    install(data / "models", BaseModelSettings(name="tiny-base", package="tiny"), TinySource())
    house = House(tmp_path)
    house.write("a.jsonl", SOUND + ODD)
    return house


@pytest.fixture
def server(house: House) -> Iterator[None]:
    """What the gate asks."""
    (house.data / "run").mkdir()
    with _Server(str(house.data / "run" / "server.sock"), _Answers) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}).start()
        yield
        server.shutdown()


def _settings(*more: str) -> list[str]:
    return [word for setting in (*SHORT, *more) for word in ("--set", setting)]


@pytest.mark.usefixtures("server")
def test_what_is_trained_and_judged_is_kept_in_its_places_alone(house: House) -> None:
    """Checked, trained, published, judged, promoted, listed: nothing is said of a row but its place."""
    assert house.run("check-data", *_settings()) == 0
    assert house.run("check-data", "--json", *_settings()) == 0
    assert house.holding() == {"data/datasets/*"}
    assert house.run("retrain", *_settings()) == 0, house.said.decode()
    assert house.run("jobs") == house.run("jobs", "--json") == 0
    assert house.run("versions", program=("-m", "services.registry")) == 0
    assert house.run("lineage", "--version", "1", "--rows", program=("-m", "services.registry")) == 0
    assert (judged := read_judgement(Registry(house.data / "registry"), "acme", 1)) is not None
    assert judged.passed
    assert house.holding() == set(BY_DESIGN)


@pytest.mark.usefixtures("server")
def test_rows_that_are_refused_are_quoted_nowhere(house: House) -> None:
    """Every fault is named by file, line and field; each row is a file's first, which says the file's format."""
    cut = (json.dumps(SOUND[0])[:-1], f'{{"prompt": "{CANARY}", "prompt": 1}}', CANARY, f'"{CANARY}')
    lines = [*map(json.dumps, FAULTY), *cut]
    for number, line in enumerate(lines):
        house.write(f"b{number}.jsonl", [], line)
    for words in (["check-data"], ["check-data", "--json"], ["retrain", "--json"]):
        assert house.run(*words, *_settings()) == 3
    assert house.run("jobs", "--json") == 0
    said = house.said.decode()
    assert [number for number in range(len(lines)) if f"b{number}.jsonl:1: " not in said] == []
    assert house.holding() == {"data/datasets/*"}


def test_a_run_that_fails_says_nothing_of_its_rows(house: House) -> None:
    """A loss that is no number, found by the worker; its log and what it left are beside the copy of the rows."""
    assert house.run("retrain", *_settings("recipe.learning_rate=1e30", "recipe.max_grad_norm=1e30")) == 1
    assert house.run("jobs", "--json") == 0
    assert b"the adapter holds NaN or infinity" in house.said
    assert list(house.data.glob("runs/*/worker.log"))
    assert house.holding() == {pattern for pattern in BY_DESIGN if "registry" not in pattern}


def test_a_fault_of_ours_that_quotes_a_row_is_told_by_its_type(house: House) -> None:
    """An error that nobody foresaw, with a row in its text and in its frame's locals."""
    fails = f"raise ValueError('cannot take {CANARY}')"
    patched = f"import services.trainer.retrain as m, sys\ndef fail(*_, **__): {fails}\nm.prepare = fail\n"
    main = "from services.trainer.__main__ import main\nsys.exit(main(sys.argv[1:]))"
    assert house.run("retrain", *_settings(), program=("-c", patched + main)) == 1
    assert b"ValueError" in house.said
    assert house.run("jobs", "--json") == 0
    assert b"a fault of the trainer's own" in house.said
    assert house.holding() == {"data/datasets/*"}
