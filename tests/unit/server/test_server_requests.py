"""What is wrong with a request as such: route, method, body, size, time; and what every answer carries."""

import asyncio
from typing import Any

import pytest

from services.server.lifecycle import Phase
from tests.unit.server.client import Client
from tests.unit.server.fakes import BASE, CONTEXT
from tests.unit.server.harness import Server, until

CHAT = {"model": BASE, "messages": [{"role": "user", "content": "hi"}]}
# Routes of vllm.entrypoints, those of its development mode too, but what Whetstone serves itself.
VLLM_ANSWERS = """
/health /ping /version /load /server_info /tokenizer_info /is_paused /is_sleeping /get_world_size /weight_info /kv_event_sources
/fault_tolerance/status
"""
VLLM_DOES = """
/v1/load_lora_adapter /v1/unload_lora_adapter /tokenize /detokenize /pooling /classify /score /v1/score /rerank /v1/rerank /v2/rerank
/generative_scoring /v2/embed /cohere/v2/chat /cohere/v2/chat/render /invocations /inference/v1/generate /ping
/v1/messages /v1/messages/count_tokens /v1/messages/render /v1/systemone /v1/audio/transcriptions /v1/audio/translations
/v1/completions/render /v1/completions/derender /v1/chat/completions/render /v1/chat/completions/derender /v1/chat/completions/batch
/sleep /wake_up /pause /resume /abort_requests /collective_rpc /reset_prefix_cache /reset_mm_cache
/reset_encoder_cache /release_kv_cache_memory /start_profile /stop_profile /scale_elastic_ep /is_scaling_elastic_ep
/fault_tolerance/apply /init_weight_transfer_engine /shutdown_weight_transfer_engine /start_weight_update /start_draft_weight_update
/update_weights /finish_weight_update /update_weight_version /weight_checker
"""


@pytest.mark.parametrize(
    ("path", "method", "status", "code"),
    [
        ("/v1/nothing", "GET", 404, "unknown_url"),
        ("/", "GET", 404, "unknown_url"),
        ("/docs", "GET", 404, "unknown_url"),
        ("/schema", "GET", 404, "unknown_url"),
        ("/v1/chat/completions", "GET", 405, "method_not_allowed"),
        ("/v1/models", "POST", 405, "method_not_allowed"),
    ],
)
async def test_unserved_routes_and_methods(server: Server, path: str, method: str, status: int, code: str) -> None:
    """What is not named is not served, and says so in OpenAI's shape."""
    answer = await server.ask(path, method=method)
    assert answer.status == status
    assert answer.error["code"] == code


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", path) for path in VLLM_ANSWERS.split()] + [("POST", path) for path in VLLM_DOES.split()],
)
async def test_what_vllms_own_server_has_besides_is_not_served(server: Server, method: str, path: str) -> None:
    """No adapter is loaded, no state read or reset, nothing put to sleep or profiled past keys, limits and the registry."""
    answer = await server.ask(path, None if method == "GET" else {}, method=method)
    assert answer.status == 404
    assert (answer.error["type"], answer.error["code"]) == ("invalid_request_error", "unknown_url")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"x"',
        b'{"model": NaN}',
        b'{"temperature": 1e999}',
        b"\xff\xfe",
        b'{"model": "\\ud800"}',
        b"[" * 9000,
    ],
    ids=["empty", "cut", "list", "text", "nan", "infinity", "not-utf8", "surrogate", "deep"],
)
async def test_body_that_is_no_request(server: Server, body: bytes) -> None:
    """400 in OpenAI's shape."""
    answer = await server.ask(body=body)
    assert answer.status == 400
    assert answer.error["type"] == "invalid_request_error"


async def test_deep_json_inside_a_known_field(server: Server) -> None:
    """Nesting inside a field that takes anything ends in 400, not in a crash."""
    deep = b'{"model": "tiny", "messages": [], "tools": ' + b"[" * 4500 + b"]" * 4500 + b"}"
    assert (await server.ask(body=deep)).status == 400


@pytest.mark.parametrize(
    "headers",
    [{"content-type": "text/plain"}, {"content-type": "multipart/form-data"}, {"content-encoding": "gzip"}],
    ids=["text", "form", "gzip"],
)
async def test_other_media_are_refused(server: Server, headers: dict[str, str]) -> None:
    """415: neither another type nor a compressed body is read."""
    answer = await server.ask(body=CHAT, headers=headers)
    assert answer.status == 415
    assert answer.error["code"] == "unsupported_content_type"


async def test_body_over_the_limit(server: Server) -> None:
    """413, whether the length is declared or not."""
    large: dict[str, Any] = {**CHAT, "user": "x" * 20_000}
    for headers in ({}, {"content-length": "10"}):
        answer = await server.ask(body=large, headers=headers)
        assert answer.status == 413
        assert answer.error["code"] == "request_too_large"


async def test_slow_body_times_out(server: Server) -> None:
    """408 after ``limits.body_seconds``; the slot was never taken."""
    client = Client(server, "/v1/chat/completions", CHAT, slow=True)
    await until(client.task.done)
    assert client.status == 408
    assert client.error["code"] == "request_timeout"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
async def test_body_that_completes_after_the_drain_is_503(server: Server, path: str) -> None:
    """A request whose body was still on its way when the server began to stop never reaches the closing engine."""
    body: dict[str, Any] = CHAT if path.startswith("/v1/chat") else {"model": BASE, "prompt": "hi"}
    client = Client(server, path, body, slow=True)
    await asyncio.sleep(0.05)
    assert await server.services.lifecycle.drain(0.1) == 0
    assert server.services.lifecycle.phase is Phase.DRAINING
    client.send_body()
    await until(client.task.done)
    assert (client.status, client.error["code"]) == (503, "service_unavailable")
    assert server.engine.begun == []


async def test_request_id_is_kept_or_made(server: Server) -> None:
    """A sane one comes back, on errors and unknown routes too; anything else is replaced."""
    for path in ("/livez", "/nothing"):
        answer = await server.ask(path, headers={"x-request-id": "my-id.1_2"})
        assert answer.headers["x-request-id"] == "my-id.1_2"
    for bad in ("", "a b", "x" * 129, 'x"'):
        made = (await server.ask("/nothing", headers={"x-request-id": bad})).headers["x-request-id"]
        assert made.startswith("req_")
        assert len(made) == 28


async def test_burst_gets_429_before_tokenizing(server: Server) -> None:
    """Beyond the running and waiting answers: 429 with Retry-After, and the tokenizer has not run for it."""
    server.engine.gate.clear()
    waiting = [Client(server, "/v1/chat/completions", {**CHAT, "n": 4}) for _ in range(2)]
    await until(lambda: server.services.admission.in_flight == 8)
    await until(lambda: server.engine.fake_tokenizer.encoded == 2)
    refused = await server.ask(body=CHAT)
    assert refused.status == 429
    assert refused.error["code"] == "rate_limit_exceeded"
    assert int(refused.headers["retry-after"]) >= 1
    assert server.engine.fake_tokenizer.encoded == 2
    server.engine.gate.set()
    for client in waiting:
        await client.task
        assert client.status == 200
    assert (await server.ask(body=CHAT)).status == 200


async def test_text_that_cannot_fit_is_not_tokenized(server: Server) -> None:
    """A prompt over the context by its characters alone never reaches the one thread that tokenizes."""
    text = "x" * (2 * CONTEXT + 1)
    chat = await server.chat(messages=[{"role": "user", "content": text}])
    completion = await server.ask("/v1/completions", {"model": BASE, "prompt": text})
    assert {chat.error["code"], completion.error["code"]} == {"context_length_exceeded"}
    assert server.engine.fake_tokenizer.encoded == 0


async def test_more_answers_than_ever_fit(server: Server) -> None:
    """One request over the whole capacity is refused too."""
    prompts = ["a", "b", "c"]
    answer = await server.ask("/v1/completions", {"model": BASE, "prompt": prompts, "n": 4})
    assert answer.status == 429


async def test_unforeseen_error_says_nothing(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """500 with all four keys, without the error's own text, which may hold a prompt; nor does the log hold it."""

    async def explode(*_: Any) -> list[int]:
        raise KeyError("a secret prompt")

    monkeypatch.setattr(server.model.renderer, "chat", explode)
    answer = await server.ask(body=CHAT)
    assert answer.status == 500
    assert answer.error["code"] == "internal_error"
    assert b"secret" not in answer.body
    logged = capsys.readouterr().out
    assert "KeyError" in logged
    assert "requests.py" in logged, "the log says where"
    assert "secret" not in logged
