"""Chat completions: what is answered, plain and streamed."""

from typing import Any

import pytest

from tests.unit.server.fakes import BASE, CONTEXT
from tests.unit.server.harness import Server


async def test_plain_answer_has_openais_shape(server: Server) -> None:
    """One JSON document with id, model, choices and usage; cached tokens included."""
    answer = await server.chat()
    assert answer.status == 200
    assert answer.headers["content-length"] == str(len(answer.body))
    document = answer.json
    assert document["object"] == "chat.completion"
    assert document["model"] == BASE
    assert document["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "I am tiny .", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]
    prompt = len("user:hi\nassistant:")
    assert document["usage"] == {
        "prompt_tokens": prompt,
        "completion_tokens": 4,
        "total_tokens": prompt + 4,
        "prompt_tokens_details": {"cached_tokens": 3},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }


async def test_stream_is_role_then_text_then_reason_then_done(server: Server) -> None:
    """Events in OpenAI's order, each with the same id, none with a usage nobody asked for."""
    answer = await server.chat(stream=True)
    events = answer.events
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert events[-1] == "[DONE]"
    chunks = events[:-1]
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
    assert answer.text == "I am tiny ."
    assert chunks[-1]["choices"][0] == {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert not any("usage" in chunk for chunk in chunks)


async def test_stream_with_usage_says_null_until_its_last_event(server: Server) -> None:
    """``include_usage`` adds one event without choices before ``[DONE]``; every other says ``null``."""
    events = (await server.chat(stream=True, stream_options={"include_usage": True})).events
    assert events[-2]["choices"] == []
    assert events[-2]["usage"]["completion_tokens"] == 4
    assert all(event["usage"] is None for event in events[:-2])


@pytest.mark.parametrize("stream", [True, False])
async def test_n_answers_are_numbered(server: Server, *, stream: bool) -> None:
    """``n`` answers come with their own index, text and reason; usage counts them all."""
    answer = await server.chat(n=3, stream=stream)
    if stream:
        choices = [event["choices"][0] for event in answer.events[:-1]]
        texts = ["".join(c["delta"].get("content", "") for c in choices if c["index"] == index) for index in range(3)]
        assert [c["index"] for c in choices if c["finish_reason"]] == [0, 1, 2]
    else:
        texts = [choice["message"]["content"] for choice in answer.json["choices"]]
        assert answer.json["usage"]["completion_tokens"] == 12
    assert texts == ["I am tiny ."] * 3


@pytest.mark.parametrize("stream", [True, False])
async def test_logprobs_name_token_bytes_and_alternatives(server: Server, *, stream: bool) -> None:
    """Each token comes with its log-probability, its bytes, and as many alternatives as asked for."""
    answer = await server.chat(logprobs=True, top_logprobs=1, stream=stream)
    choice = answer.events[1]["choices"][0] if stream else answer.json["choices"][0]
    first = choice["logprobs"]["content"][0]
    assert first == {
        "token": "I",
        "logprob": -0.5,
        "bytes": [73],
        "top_logprobs": [{"token": "I", "logprob": -0.5, "bytes": [73]}],
    }


async def test_text_is_json_escaped_in_frames(server: Server) -> None:
    """Quotes, newlines and Korean arrive as they were generated."""
    server.engine.words = ['say "', "안녕", '"\n', "\\ \u2028"]
    assert (await server.chat(stream=True)).text == 'say "안녕"\n\\ \u2028'


async def test_max_tokens_ends_an_answer_with_length(server: Server) -> None:
    """Both names of the field end the answer where they say."""
    for field in ("max_tokens", "max_completion_tokens"):
        choice = (await server.chat(**{field: 2})).json["choices"][0]
        assert (choice["message"]["content"], choice["finish_reason"]) == ("I am", "length")


async def test_developer_speaks_as_system_and_parts_are_joined(server: Server) -> None:
    """The template gets roles and texts it knows."""
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    await server.chat(messages=[{"role": "developer", "content": "rules"}, {"role": "user", "content": parts}])
    assert "".join(map(chr, server.engine.prompts[-1])) == "system:rules\nuser:onetwo\nassistant:"


async def test_sampling_reaches_the_engine(server: Server) -> None:
    """Every sampling field arrives; what a request leaves out comes from the model's generation config."""
    server.engine.default_sampling["temperature"] = 0.7
    server.engine.default_sampling["top_k"] = 20
    more = {"logit_bias": {"7": 5}, "ignore_eos": True}
    await server.chat(top_p=0.5, seed=-1, stop=["END"], presence_penalty=1, frequency_penalty=-1, **more)
    sampling = server.engine.samplings[-1]
    assert (sampling.temperature, sampling.top_k, sampling.top_p) == (0.7, 20, 0.5)
    assert (sampling.presence_penalty, sampling.frequency_penalty) == (1, -1)
    assert (sampling.stop, sampling.logit_bias, sampling.ignore_eos) == (("END",), {7: 5.0}, True)
    assert sampling.seed is not None
    assert sampling.seed >= 0
    assert sampling.max_tokens == server.services.limits.max_output_tokens


async def test_inert_fields_are_accepted(server: Server) -> None:
    """What OpenAI's clients send and what has no effect here is no error."""
    echoed: dict[str, Any] = {
        "role": "assistant",
        "content": "a",
        "refusal": None,
        "tool_calls": None,
        "annotations": [],
        "audio": None,
    }
    answer = await server.chat(
        messages=[{"role": "user", "content": "a", "name": "bob"}, echoed, {"role": "user", "content": "b"}],
        user="u",
        metadata={"a": "b"},
        store=False,
        service_tier="auto",
        safety_identifier="s",
        prompt_cache_key="k",
        reasoning_effort="low",
        verbosity="low",
        parallel_tool_calls=True,
        tools=[],
        tool_choice="none",
        response_format={"type": "text"},
        modalities=["text"],
        logit_bias=None,
        stop=None,
        stream_options=None,
    )
    assert answer.status == 200


BAD_FIELDS: list[tuple[dict[str, Any], str, str | None]] = [
    ({"temperature": 2.1}, "temperature", "invalid_value"),
    ({"temperature": "hot"}, "temperature", "invalid_type"),
    ({"top_p": -0.1}, "top_p", "invalid_value"),
    ({"n": 0}, "n", "invalid_value"),
    ({"n": 1_000_000}, "n", "invalid_value"),
    ({"n": -1}, "n", "invalid_value"),
    ({"seed": 2**70}, "seed", "invalid_value"),
    ({"presence_penalty": 3}, "presence_penalty", "invalid_value"),
    ({"max_tokens": 0}, "max_tokens", "invalid_value"),
    ({"max_tokens": CONTEXT}, "max_tokens", "invalid_value"),
    ({"max_tokens": 1, "max_completion_tokens": 1}, "max_completion_tokens", "invalid_value"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "invalid_value"),
    ({"top_logprobs": 1}, "top_logprobs", "invalid_value"),
    ({"stop": ["a"] * 5}, "stop", "invalid_value"),
    ({"stop": ""}, "stop", "invalid_value"),
    ({"stop": "x" * 17}, "stop", "invalid_value"),
    ({"logit_bias": {"1000": 1}}, "logit_bias", "invalid_value"),
    ({"logit_bias": {"x": 1}}, "logit_bias", "invalid_value"),
    ({"logit_bias": {"1": 101}}, "logit_bias", "invalid_value"),
    ({"logit_bias": {str(i): 1 for i in range(4)}}, "logit_bias", "invalid_value"),
    ({"repetition_penalty": 0}, "repetition_penalty", "invalid_value"),
    ({"ignore_eos": True, "response_format": {"type": "json_object"}}, "ignore_eos", "invalid_value"),
    ({"stream_options": {"include_usage": True}}, "stream_options", "invalid_value"),
    ({"messages": []}, "messages", "invalid_value"),
    ({"messages": [{"role": "user", "content": "x"}] * 6}, "messages", "invalid_value"),
    ({"messages": [{"role": "user", "content": "x" * CONTEXT}]}, "messages", "context_length_exceeded"),
    ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role", "invalid_value"),
    (
        {"messages": [{"role": "tool", "content": "x", "tool_call_id": "1"}]},
        "messages[0].tool_call_id",
        "invalid_value",
    ),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id", "missing_required_parameter"),
    ({"messages": [{"role": "function", "content": "x"}]}, "messages[0].role", "unsupported_value"),
    (
        {"messages": [{"role": "user", "content": "x", "tool_calls": [{"id": "1"}]}]},
        "messages[0].tool_calls",
        "invalid_value",
    ),
    (
        {"messages": [{"role": "user", "content": "x", "tool_call_id": "1"}]},
        "messages[0].tool_call_id",
        "invalid_value",
    ),
    (
        {"messages": [{"role": "assistant", "content": "x", "tool_calls": [{"id": "1", "type": "custom"}]}]},
        "messages[0].tool_calls[0].type",
        "unsupported_value",
    ),
    ({"messages": [{"role": "user"}]}, "messages[0].content", "missing_required_parameter"),
    ({"messages": [{"content": "x"}]}, "messages[0].role", "missing_required_parameter"),
    ({"messages": [{"role": "user", "content": "refuse me"}]}, "messages", None),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
        "messages[0].content[0].type",
        "unsupported_value",
    ),
    ({"functions": [{"name": "f"}]}, "functions", "unsupported_parameter"),
    ({"chat_template": "{{ evil }}"}, "chat_template", "unknown_parameter"),
    ({"stream_options": {"what": 1}}, "stream_options.what", "unknown_parameter"),
]


@pytest.mark.parametrize(
    ("fields", "param", "code"), BAD_FIELDS, ids=[f"{param}-{i}" for i, (_, param, _) in enumerate(BAD_FIELDS)]
)
async def test_bad_field_is_refused_by_name(
    server: Server, fields: dict[str, Any], param: str, code: str | None
) -> None:
    """400 in OpenAI's shape with the field's name, before the engine sees anything."""
    answer = await server.chat(**fields)
    assert answer.status == 400
    assert answer.error["type"] == "invalid_request_error"
    assert (answer.error["param"], answer.error["code"]) == (param, code)
    assert server.engine.begun == []


async def test_engines_refusal_is_the_clients_error(server: Server) -> None:
    """What only the engine can find wrong is a 400, streamed or not: the status is not sent before the engine took it."""
    server.engine.refuse = "no such thing"
    for stream in (True, False):
        answer = await server.chat(stream=stream)
        assert answer.status == 400
        assert answer.error["message"] == "no such thing"


async def test_unknown_model_is_404(server: Server) -> None:
    """``model_not_found``, with the name."""
    for name in ("nobody", "tiny@1", "nobody@3", "../tiny"):
        answer = await server.chat(model=name)
        assert answer.status == 404
        assert answer.error["code"] == "model_not_found"
        assert answer.error["param"] == "model"
