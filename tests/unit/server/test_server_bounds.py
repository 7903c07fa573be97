"""How deep a body, how long a prompt, how long an answer and how slow: each limit of config/server.toml that ends a request."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.settings import SettingsError, load
from services.server.decode import refuse_deep
from services.server.errors import BadRequest
from services.server.settings import ServerSettings
from services.server.usage.book import Book
from tests.unit.server.client import Client
from tests.unit.server.fakes import BASE, CONTEXT, FakeEngine, roomy_engine
from tests.unit.server.harness import Server, settings, until

CONFIG = Path(__file__).parents[3] / "config"
DEPTH = settings().limits.max_json_depth
OUTPUT = settings().limits.max_output_tokens
CHAT: dict[str, Any] = {"model": BASE, "messages": [{"role": "user", "content": "hi"}]}
TEXT: dict[str, Any] = {"model": BASE, "prompt": "hi"}
RESPONSE: dict[str, Any] = {"model": BASE, "input": "hi"}
BODIES = {"/v1/chat/completions": CHAT, "/v1/completions": TEXT, "/v1/responses": RESPONSE}
FIELDS = {"/v1/chat/completions": "max_completion_tokens", "/v1/completions": "max_tokens"}
AROUND = len("user:\nassistant:")  # the fake tokenizer makes a token of each letter
SECONDS = 0.2
EACH = pytest.mark.parametrize("path", BODIES)


@pytest.fixture
async def hasty(tmp_path: Path, engine: FakeEngine) -> AsyncIterator[Server]:
    """A server whose answers have little time, and an engine that stands still after an answer's second word."""
    server = Server(tmp_path, engine=engine, answer_seconds=SECONDS)
    engine.pause_at = 2
    yield server
    server.model.renderer.close()
    assert server.services.admission.in_flight == 0, "a request did not give back its place"


def nested(levels: int) -> Any:
    """Objects and lists by turns within each other."""
    value: Any = 1
    for level in range(levels):
        value = [value] if level % 2 else {"a": value}
    return value


def refused(body: bytes, most: int) -> bool:
    """Whether it is nested deeper."""
    try:
        refuse_deep(body, most)
    except BadRequest:
        return True
    return False


@pytest.mark.parametrize("path", [*BODIES, "/v1/embeddings", "/v1/fine_tuning/jobs"])
async def test_a_body_nested_too_deeply_is_refused_by_the_setting(server: Server, path: str) -> None:
    """On every route that reads JSON, and before a field is looked at; at the limit the fields say what is wrong."""
    deepest, deeper = [(await server.ask(path, {"a": nested(DEPTH + more)})).error for more in (-1, 0)]
    assert deepest["code"] != deeper["code"]
    assert deeper["type"] == "invalid_request_error"
    assert f"{DEPTH} objects and arrays (limits.max_json_depth)" in deeper["message"]


async def test_texts_are_no_nesting(server: Server) -> None:
    """However many brackets, quotes and backslashes are in one."""
    content = '[{"\\' * 500
    server.engine.max_model_len = 10_000
    answer = await server.chat(messages=[{"role": "user", "content": content}])
    assert "context_length_exceeded" in answer.body.decode()  # it came as far as the renderer
    assert not refused(json.dumps({"a": content}).encode(), 1)


_JSON = st.recursive(
    st.text('[]{}"\\ua', max_size=6) | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('[]{}"\\', max_size=4), inner, max_size=3),
    max_leaves=12,
)


@given(_JSON)
def test_nesting_is_counted_as_json_has_it(value: Any) -> None:
    """Refused at one level less than it has, and at its own not."""
    body = json.dumps(value).encode()
    levels = _levels(value)
    assert not refused(body, levels)
    assert levels == 0 or refused(body, levels - 1)


def _levels(value: Any) -> int:
    if not isinstance(value, list | dict):
        return 0
    return 1 + max(map(_levels, value.values() if isinstance(value, dict) else value), default=0)


@given(st.lists(st.sampled_from([b"[", b"]", b"{", b"}", b'"', b"\\", b"a", b"\xff"])))
def test_what_is_no_json_is_counted_without_a_fault(pieces: list[bytes]) -> None:
    refused(b"".join(pieces), 2)


@EACH
async def test_a_prompt_over_the_setting_is_refused_before_the_engine(tmp_path: Path, path: str) -> None:
    """At the limit it is answered; beyond it 400 with the field and the setting, and if much beyond without tokenizing."""
    around = 0 if path == "/v1/completions" else AROUND
    server = Server(tmp_path, max_prompt_tokens=50)
    field = list(BODIES[path])[1]
    for letters, encoded, status in ((50 - around, 1, 200), (51 - around, 2, 400), (101, 2, 400)):
        text = "x" * letters
        value = [{"role": "user", "content": text}] if field == "messages" else text
        answer = await server.ask(path, {**BODIES[path], field: value})
        assert (answer.status, server.engine.fake_tokenizer.encoded) == (status, encoded)
        if status == 400:
            assert (answer.error["param"], answer.error["code"]) == (field, "context_length_exceeded")
            assert "50 tokens (limits.max_prompt_tokens)" in answer.error["message"]
            assert f"'{field}'" in answer.error["message"]
    assert len(server.engine.prompts) == 1
    server.model.renderer.close()


async def test_every_prompt_of_a_request_is_held_to_the_setting(tmp_path: Path) -> None:
    """Token ids, too, and beside prompts that fit."""
    server = Server(tmp_path, max_prompt_tokens=50)
    answer = await server.ask("/v1/completions", {**TEXT, "prompt": [[1] * 50, [1] * 51]})
    assert (answer.status, answer.error["param"]) == (400, "prompt")
    assert server.engine.prompts == []
    server.model.renderer.close()


@pytest.mark.parametrize("setting", [0, CONTEXT])
async def test_without_a_limit_on_prompts_the_context_is_it(tmp_path: Path, setting: int) -> None:
    """Zero, or no less than the engine has."""
    server = Server(tmp_path, max_prompt_tokens=setting)
    for tokens, status in ((CONTEXT - 1, 200), (CONTEXT, 400)):
        assert (await server.ask("/v1/completions", {**TEXT, "prompt": [1] * tokens})).status == status
    server.model.renderer.close()


@pytest.mark.parametrize(
    ("path", "field"), [*FIELDS.items(), ("/v1/chat/completions", "max_tokens"), ("/v1/responses", "max_output_tokens")]
)
async def test_an_answer_over_the_setting_is_refused_before_the_engine(server: Server, path: str, field: str) -> None:
    """400 with the field and the setting, streamed or not."""
    assert (await server.ask(path, {**BODIES[path], field: OUTPUT})).status == 200
    for stream in (False, True):
        answer = await server.ask(path, {**BODIES[path], field: OUTPUT + 1, "stream": stream})
        assert (answer.status, answer.error["param"], answer.error["code"]) == (400, field, "invalid_value")
        assert f"{OUTPUT} tokens (limits.max_output_tokens)" in answer.error["message"]
    assert [sampling.max_tokens for sampling in server.engine.samplings] == [OUTPUT]


@EACH
async def test_who_asks_for_no_length_gets_the_setting_at_most(tmp_path: Path, path: str) -> None:
    """Or what OpenAI's own default is, or what the context has room for, where that is less."""
    engine = FakeEngine()
    for setting, tokens in ((7, 7), (0, 16 if path == "/v1/completions" else CONTEXT - AROUND - 2)):
        server = Server(tmp_path, engine=engine, max_output_tokens=setting)
        assert (await server.ask(path, BODIES[path])).status == 200
        assert engine.samplings[-1].max_tokens == tokens
        server.model.renderer.close()


@pytest.mark.parametrize(("path", "field"), FIELDS.items())
async def test_without_a_limit_on_answers_the_context_is_it(tmp_path: Path, path: str, field: str) -> None:
    """Over what the prompt leaves of it, OpenAI's own code."""
    server = Server(tmp_path, max_output_tokens=0)
    answer = await server.ask(path, {**BODIES[path], field: CONTEXT})
    assert (answer.status, answer.error["param"], answer.error["code"]) == (400, field, "context_length_exceeded")
    server.model.renderer.close()


@EACH
async def test_a_stream_that_takes_too_long_ends_in_an_error_event(hasty: Server, path: str) -> None:
    """In OpenAI's form after what there was, without a proper end; the engine stops, and what was used is counted."""
    client = Client(hasty, path, {**BODIES[path], "stream": True})
    await until(lambda: b" am" in client.body)
    assert not client.ended
    await until(client.task.done)
    assert (client.status, client.ended) == (200, True)
    last = json.loads(client.body.decode().strip().rpartition("data: ")[2])
    assert (last["error"]["type"], last["error"]["code"]) == ("server_error", "answer_timeout")
    assert f"{SECONDS:g} seconds (limits.answer_seconds)" in last["error"]["message"]
    assert b"[DONE]" not in client.body
    await is_over(hasty, 2 if path == "/v1/completions" else AROUND + 2, 2)


@EACH
async def test_a_whole_answer_that_takes_too_long_is_504(hasty: Server, path: str) -> None:
    """OpenAI's error, which its SDKs do not try again; the engine stops, and what was used is counted."""
    client = await hasty.ask(path, BODIES[path])
    assert (client.status, client.error["code"]) == (504, "answer_timeout")
    assert client.headers["x-should-retry"] == "false"
    await is_over(hasty, 2 if path == "/v1/completions" else AROUND + 2, 2)


@pytest.mark.parametrize("stream", [True, False])
async def test_waiting_for_the_engine_is_part_of_an_answers_time(hasty: Server, *, stream: bool) -> None:
    """A stream is 504, too, where nothing of it was told; all prompts of a request are given up."""
    hasty.engine.gate.clear()
    client = await hasty.ask("/v1/completions", {**TEXT, "prompt": ["a", "b", "c"], "stream": stream})
    assert (client.status, client.error["code"]) == (504, "answer_timeout")
    assert len(hasty.engine.aborted) == 3
    await is_over(hasty, 3, 0)


async def test_a_prompt_that_is_not_read_in_time_never_comes_to_the_engine(tmp_path: Path) -> None:
    """The tokenizer's thread is not interrupted, but nothing follows."""
    server = Server(tmp_path, engine=roomy_engine(), answer_seconds=SECONDS)
    server.engine.fake_tokenizer.gate.clear()
    asyncio.get_running_loop().call_later(2 * SECONDS, server.engine.fake_tokenizer.gate.set)
    client = await server.chat(messages=[{"role": "user", "content": "long " * 500}])
    assert (client.status, client.error["code"]) == (504, "answer_timeout")
    assert server.engine.begun == []
    server.model.renderer.close()


async def test_an_answer_in_time_is_left_alone(tmp_path: Path) -> None:
    """The clock ends with it, and holds nothing of it."""
    server = Server(tmp_path, answer_seconds=SECONDS)
    for stream in (True, False):
        assert (await server.chat(stream=stream)).text == "I am tiny ."
    await asyncio.sleep(2 * SECONDS)
    assert 'outcome="answer_timeout"' not in server.services.metrics.text().decode()
    server.model.renderer.close()


async def is_over(server: Server, prompt_tokens: int, completion_tokens: int) -> None:
    """Nothing of the one request is left but what its key used."""
    assert server.services.admission.in_flight == 0
    assert sorted(server.engine.aborted) == sorted(server.engine.begun)
    assert 'outcome="answer_timeout"' in server.services.metrics.text().decode()
    await server.services.usage.write()
    [(_, used)] = Book(server.plan.paths.usage).read("0001-01-01", "9999-12-31")
    assert (used.requests, used.prompt_tokens, used.completion_tokens) == (1, prompt_tokens, completion_tokens)


BEYOND = {
    "max_connections": ("0", "1000001"),
    "max_head_bytes": ("8191", "1048577"),
    "head_seconds": ("0.0", "86401.0"),
    "unread_seconds": ("0.0", "86401.0"),
    "max_json_depth": ("15", "201"),
    "max_prompt_tokens": ("-1", "1.5"),
    "max_output_tokens": ("-1", "true"),
    "answer_seconds": ("0.0", "86401.0"),
}


@pytest.mark.parametrize(
    ("key", "value"), [pair for key, values in BEYOND.items() for pair in itertools.product([key], values)]
)
def test_a_limit_out_of_bounds_is_an_error_that_names_it(key: str, value: str) -> None:
    """Before anything is started; what is no limit is one, too."""
    with pytest.raises(SettingsError, match=rf"server\.toml.*\$\.limits\.{key}`"):
        load("server", ServerSettings, [f"limits.{key}={value}"], folder=CONFIG)
    with pytest.raises(SettingsError, match=f"unknown field `{key}_`"):
        load("server", ServerSettings, [f"limits.{key}_={value}"], folder=CONFIG)


def test_schemas_fit_into_bodies() -> None:
    """A depth that schemas may have and bodies may not is an error."""
    with pytest.raises(SettingsError, match="max_json_depth must be at least"):
        load("server", ServerSettings, ["limits.max_json_depth=31"], folder=CONFIG)
    assert load("server", ServerSettings, ["limits.max_json_depth=32"], folder=CONFIG).limits.max_schema_depth == 24
