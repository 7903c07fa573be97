"""What is asked, answered and uploaded stays where it belongs: a canary is looked for in everything that the server writes or says."""

import contextlib
import json
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from services.registry.pointer import promote
from tests.support.tokenizers import save_base
from tests.unit.server.client import Client
from tests.unit.server.fakes import BASE, FakeEngine, roomy_engine
from tests.unit.server.harness import Server, publish_version
from tests.unit.server.strategies import FORM

CANARY = "canary4711"
TOOL = {"type": "function", "function": {"name": "find", "description": CANARY, "parameters": {"title": CANARY}}}
SCHEMA = {"type": "object", "properties": {CANARY: {"type": "string", "pattern": f"^{CANARY}$"}}}
FORMAT = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
CHAT = {"model": "acme", "messages": [{"role": "user", "content": f"Who is {CANARY}?"}]}
COMPLETION = {"model": "acme", "prompt": f"Who is {CANARY}?"}
RESPONSE = {"model": "acme", "input": f"Who is {CANARY}?", "instructions": CANARY}
SOUND: dict[str, list[dict[str, Any]]] = {
    "/v1/chat/completions": [
        CHAT,
        CHAT | {"stream": True, "metadata": {"a": CANARY}, "user": CANARY, "stop": [CANARY]},
        CHAT | {"tools": [TOOL]},
        CHAT | {"response_format": FORMAT},
    ],
    "/v1/completions": [COMPLETION, COMPLETION | {"stream": True}, COMPLETION | {"echo": True, "logprobs": 1}],
    "/v1/responses": [RESPONSE, RESPONSE | {"stream": True}, RESPONSE | {"metadata": {"a": CANARY}}],
}
TYPES: list[Any] = [CANARY, [CANARY], {"a": CANARY}, [{"type": CANARY}], [{"role": CANARY, "content": CANARY}]]
LONG = f"{CANARY} " * 600  # beyond the context
AT_ODDS: dict[str, list[dict[str, Any]]] = {
    "/v1/chat/completions": [
        {"messages": [{"role": "user", "content": f"{LONG}"}]},
        {"messages": [{"role": "user", "content": CANARY}, {"role": "user", "content": "refuse me"}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": f"data:{CANARY}"}}]}]},
        {"messages": [{"role": "tool", "tool_call_id": CANARY, "content": CANARY}]},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"pattern": f"({CANARY}"}}}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": CANARY * 9, "schema": SCHEMA}}},
        {"tools": [TOOL | {"function": {"name": "x", "parameters": {"type": CANARY}, "strict": True}}]},
        {"chat_template": CANARY},
    ],
    "/v1/completions": [{"prompt": LONG}, {"prompt": [CANARY] * 9}, {"suffix": CANARY}],
    "/v1/responses": [
        {"input": LONG},
        {"input": [{"type": "function_call_output", "call_id": CANARY, "output": CANARY}]},
        {"text": {"format": {"type": "json_schema", "name": "x", "schema": {"pattern": f"({CANARY}"}}}},
    ],
}
ROW = json.dumps({"prompt": f"Who is {CANARY}?", "completion": f"{CANARY} is ours."})
FAULTY = "\n".join([ROW[:-1], ROW.replace('"completion"', f'"{CANARY}"'), json.dumps({"messages": [CANARY]}), CANARY])


@pytest.fixture
def engine() -> FakeEngine:
    """One that says the canary, and has room for tools."""
    engine = roomy_engine()
    engine.words = ["I", " know", f" {CANARY}"]
    return engine


@pytest.fixture
async def server(tmp_path: Path, engine: FakeEngine) -> AsyncIterator[Server]:
    """Serving a version, and writing down what is used."""
    server = Server(tmp_path, engine=engine, max_schema_bytes=4000)
    publish_version(server.registry)
    promote(server.registry, "acme", 1)
    await server.reconcile()
    yield server
    server.model.renderer.close()


@pytest.fixture
def told(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Any:
    """Everything that was logged or printed up to now, by whomever."""
    caplog.set_level("DEBUG")
    return lambda: "".join(capfd.readouterr()) + caplog.text


async def _holding(server: Server, told: Any, *but: Path) -> list[str]:
    """Where the canary is: the log, a page of the server, or a file that is not below one of ``but``."""
    await server.services.usage.write()
    pages = {page: (await server.ask(page)).body for page in ("/metrics", "/readyz", "/v1/models", "/openapi.json")}
    files = [file for file in server.plan.paths.root.rglob("*") if file.is_file()]
    places = {"log": told().encode()} | pages
    places |= {str(file): file.read_bytes() for file in files if not any(file.is_relative_to(path) for path in but)}
    assert all(places[page] for page in pages)
    return [place for place, content in places.items() if CANARY.encode() in content]


@pytest.mark.parametrize("path", SOUND)
async def test_what_is_said_is_kept_nowhere(server: Server, told: Any, path: str) -> None:
    """Asked and answered, whole and streamed: the caller alone has it; log, metrics and usage have the counts."""
    for body in SOUND[path]:
        answer = await server.ask(path, body)
        assert (answer.status, CANARY in answer.body.decode()) == (200, True), answer.body
    assert await _holding(server, told) == []
    with contextlib.closing(sqlite3.connect(server.plan.paths.usage)) as book:
        assert book.execute("SELECT model, requests FROM usage").fetchall() == [("acme@1", len(SOUND[path]))]
    assert b'acme@1"' in (await server.ask("/metrics")).body


@pytest.mark.parametrize("path", SOUND)
async def test_no_refusal_repeats_what_was_said(server: Server, told: Any, path: str) -> None:
    """Whichever field is wrong, and however: the error names the field, neither it nor the log the content."""
    sound = SOUND[path][0]
    fields = [field for body in SOUND[path] for field in body if field != "model"]
    wrong = [sound | {field: value} for field in [*fields, "temperature", "n", "tool_choice"] for value in TYPES]
    bodies: list[Any] = [*wrong, *(sound | change for change in AT_ODDS[path])]
    bodies += [json.dumps(sound).encode()[:-1], f'"{CANARY}"'.encode(), CANARY.encode(), f"[{CANARY}]".encode()]
    refused = 0
    for body in bodies:
        answer = await server.ask(path, body)
        assert answer.status < 500, (body, answer.body)
        if answer.status != 200:
            refused += 1
            assert CANARY not in answer.body.decode(), (body, answer.body)
    assert refused > len(bodies) // 2
    assert await _holding(server, told) == []


@pytest.mark.parametrize("path", SOUND)
@pytest.mark.parametrize("stream", [True, False])
async def test_no_failure_repeats_what_was_said(server: Server, told: Any, path: str, *, stream: bool) -> None:
    """An error within the engine, whose text may be of a prompt, is told by its type alone."""

    def fail(*_: Any) -> None:
        raise ValueError(f"cannot take {CANARY}")

    server.engine.die = fail  # type: ignore[method-assign]  # a fault that nobody foresaw
    answer = await server.ask(path, SOUND[path][0] | {"stream": stream})
    assert CANARY not in answer.body.decode()
    logged = told()
    assert "ValueError" in logged
    assert await _holding(server, lambda: logged + told()) == []


async def test_rows_are_in_their_own_file_alone(server: Server, told: Any) -> None:
    """An upload and a job on it: no database, log, page or answer has a row."""

    async def pass_all(_: Path) -> None:
        return

    server.services.uploads._check = pass_all  # noqa: SLF001 - what a check says of sound rows is in test_server_file_checks.py
    answer = await _upload(server, "\n".join([ROW] * 12))
    assert answer.status == 200
    job = await server.ask("/v1/fine_tuning/jobs", {"model": BASE, "training_file": answer.json["id"]})
    assert job.status == 200
    assert CANARY not in (answer.body + job.body).decode()
    kept = list(server.plan.paths.job_files.iterdir())
    assert [CANARY in file.read_text() for file in kept] == [True]
    assert await _holding(server, told, *kept) == []


async def test_faulty_rows_are_quoted_nowhere(
    server: Server, told: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The refusal names line and field, and nothing of the upload stays."""
    monkeypatch.setenv("WHETSTONE_DATA", str(tmp_path))
    monkeypatch.setenv("WHETSTONE_PROFILE", "cpu")
    save_base(tmp_path / "models" / "smollm2-135m-instruct")
    answer = await _upload(server, FAULTY)
    assert (answer.status, "line 4" in answer.error["message"]) == (400, True)
    assert CANARY not in answer.body.decode()
    assert await _holding(server, told) == []


async def _upload(server: Server, rows: str) -> Client:
    head = '--x\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n--x\r\ncontent-disposition: form-data; '
    form = f'{head}name="file"; filename="a"\r\n\r\n{rows}\r\n--x--\r\n'
    return await server.ask("/v1/files", form.encode(), headers={"content-type": FORM})
