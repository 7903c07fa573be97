"""The Responses API, plain: what is answered, what the engine is asked, what is refused by name."""

from typing import Any

import pytest
from openai.types.responses import Response

from services.registry.pointer import promote
from services.server.engine.protocol import Delta, ToolCallDelta
from services.server.lifecycle import Phase
from tests.unit.server.fakes import BASE, ROOM, FakeEngine, roomy_engine
from tests.unit.server.harness import Server, publish_version
from tests.unit.server.responding import CLOCK, LOGPROBS, SCHEMA, WEATHER, prompt_of, respond


@pytest.fixture
def engine() -> FakeEngine:
    """See ``roomy_engine``."""
    return roomy_engine()


async def test_plain_answer_is_a_whole_response_object(server: Server) -> None:
    """Every field that the official SDK requires, the text as one message, usage with its details, nothing stored."""
    answer = await respond(server, instructions="Be brief.", metadata={"a": "b"}, max_output_tokens=9, user="u")
    assert answer.status == 200
    assert answer.headers["content-length"] == str(len(answer.body))
    response = Response.model_validate(answer.json, strict=True)
    assert response.output_text == "I am tiny ."
    assert (response.status, response.model, response.error) == ("completed", BASE, None)
    assert (response.instructions, response.metadata, response.user) == ("Be brief.", {"a": "b"}, "u")
    assert (response.temperature, response.top_p, response.max_output_tokens) == (1.0, 1.0, 9)
    assert response.completed_at is not None
    assert response.id.startswith("resp_")
    assert answer.json["store"] is False
    assert prompt_of(server) == "system:Be brief.\nuser:hi\nassistant:"
    assert answer.json["usage"] == {
        "input_tokens": len(prompt_of(server)),
        "input_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 0},
        "output_tokens": 4,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": len(prompt_of(server)) + 4,
    }


async def test_answer_names_the_version_that_gave_it(server: Server) -> None:
    """An alias is answered by a pinned name, as in chat."""
    publish_version(server.registry)
    promote(server.registry, "acme", 1)
    await server.reconcile()
    assert (await respond(server, model="acme")).json["model"] == "acme@1"


async def test_limit_ends_a_response_incomplete(server: Server) -> None:
    """``max_output_tokens`` cuts the answer, and the response and its message say so."""
    answer = await respond(server, max_output_tokens=2)
    response = Response.model_validate(answer.json, strict=True)
    assert response.output_text == "I am"
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"
    assert answer.json["output"][0]["status"] == "incomplete"
    assert response.completed_at is None


async def test_reasoning_message_and_calls_are_items_in_their_order(server: Server) -> None:
    """Thoughts, text and each call become one item each; blanks around them become none."""
    server.engine.script = [
        Delta(index=0, text="", tokens=1, reasoning="Hm"),
        Delta(index=0, text="\n\n", tokens=1, reasoning="."),
        Delta(index=0, text="Let me ", tokens=1),
        Delta(index=0, text="look.", tokens=1),
        Delta(index=0, text="", tokens=1, tool_calls=(ToolCallDelta(index=0, id="call_1", name="weather"),)),
        Delta(index=0, text="", tokens=1, tool_calls=(ToolCallDelta(index=0, arguments='{"city":"Seoul"}'),)),
        Delta(index=0, text="\n", tokens=1),
        Delta(index=0, text="", tokens=1, tool_calls=(ToolCallDelta(index=1, id="call_2", name="clock"),)),
        Delta(index=0, text="\n", tokens=1, finish_reason="tool_calls", reasoning_tokens=2),
    ]
    answer = await respond(server, tools=[WEATHER, CLOCK])
    Response.model_validate(answer.json, strict=True)
    reasoning, message, first, second = answer.json["output"]
    assert reasoning["content"] == [{"type": "reasoning_text", "text": "Hm."}]
    assert message["content"][0]["text"] == "\n\nLet me look."
    assert (first["call_id"], first["name"], first["arguments"]) == ("call_1", "weather", '{"city":"Seoul"}')
    assert (second["call_id"], second["name"], second["arguments"]) == ("call_2", "clock", "")
    assert {item["status"] for item in answer.json["output"]} == {"completed"}
    assert len({item["id"] for item in answer.json["output"]}) == 4
    assert answer.json["usage"]["output_tokens_details"] == {"reasoning_tokens": 2}


@pytest.mark.parametrize(
    ("script", "kinds", "status"),
    [
        ([Delta(index=0, text="", tokens=1, finish_reason="stop")], ["message"], "completed"),
        ([Delta(index=0, text=" ", tokens=1, finish_reason="length")], ["message"], "incomplete"),
        (
            [Delta(index=0, text="", tokens=1, reasoning="a", finish_reason="stop")],
            ["reasoning", "message"],
            "completed",
        ),
        ([Delta(index=0, text="", tokens=1, reasoning="a", finish_reason="length")], ["reasoning"], "incomplete"),
    ],
    ids=["nothing", "blank", "only-thoughts", "cut-in-thoughts"],
)
async def test_answer_without_text_still_says_what_it_is(
    server: Server, script: list[Delta], kinds: list[str], status: str
) -> None:
    """A finished answer has a message, be it empty; one that was cut while thinking has none."""
    server.engine.script = script
    answer = await respond(server)
    response = Response.model_validate(answer.json, strict=True)
    assert ([item.type for item in response.output], response.status) == (kinds, status)
    assert answer.json["output"][-1]["status"] == status


async def test_logprobs_are_given_where_they_are_included(server: Server) -> None:
    """``include`` brings them, ``top_logprobs`` says how many alternatives; without, the list is empty."""
    answer = await respond(server, include=[LOGPROBS], top_logprobs=1)
    Response.model_validate(answer.json, strict=True)
    logprobs = answer.json["output"][0]["content"][0]["logprobs"]
    assert [entry["token"] for entry in logprobs] == ["I", " am", " tiny", " ."]
    assert logprobs[0] == {
        "token": "I",
        "logprob": -0.5,
        "bytes": [73],
        "top_logprobs": [{"token": "I", "logprob": -0.5, "bytes": [73]}],
    }
    assert (await respond(server)).json["output"][0]["content"][0]["logprobs"] == []


async def test_tools_format_and_effort_reach_the_engine(server: Server) -> None:
    """The engine is bound to the same shape as by a chat request, and the answer repeats what was asked."""
    text = {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA, "strict": True}, "verbosity": "low"}
    choices = {
        "auto": ["weather", "clock"],
        "required": ["weather", "clock"],
        "none": [],
    }
    objects: list[tuple[Any, str, list[str]]] = [
        *((choice, choice, names) for choice, names in choices.items()),
        ({"type": "function", "name": "clock"}, "clock", ["clock"]),
        (
            {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "weather"}]},
            "required",
            ["weather"],
        ),
    ]
    for choice, asked, names in objects:
        answer = await respond(
            server,
            tools=[WEATHER, CLOCK],
            tool_choice=choice,
            text=text,
            parallel_tool_calls=False,
            reasoning={"effort": "low", "summary": "auto"},
        )
        shape = server.engine.samplings[-1].shape
        assert shape is not None
        assert (shape.tool_choice, [tool["function"]["name"] for tool in shape.tools]) == (asked, names)
        assert shape.parallel is False
        assert shape.response_format is not None
        assert shape.response_format["json_schema"]["schema"] == SCHEMA
        response = Response.model_validate(answer.json, strict=True)
        assert answer.json["tool_choice"] == choice
        assert answer.json["tools"] == [WEATHER, CLOCK]
        assert response.text is not None
        assert response.text.format is not None
        assert response.text.format.type == "json_schema"
        assert response.parallel_tool_calls is False
        assert response.reasoning is not None
        assert response.reasoning.effort == "low"


@pytest.mark.parametrize("kind", ["text", "json_object"])
async def test_plain_formats_are_passed_on(server: Server, kind: str) -> None:
    """``text`` binds nothing, ``json_object`` any JSON."""
    answer = await respond(server, text={"format": {"type": kind}})
    shape = server.engine.samplings[-1].shape
    assert shape is not None
    assert shape.response_format == (None if kind == "text" else {"type": "json_object"})
    assert answer.json["text"]["format"] == {"type": kind}


async def test_inert_fields_are_accepted(server: Server) -> None:
    """What OpenAI's clients send and what has no effect here is no error."""
    answer = await respond(
        server,
        store=True,
        background=False,
        service_tier="auto",
        prompt_cache_key="k",
        prompt_cache_retention="24h",
        safety_identifier="s",
        max_tool_calls=3,
        truncation="disabled",
        include=["reasoning.encrypted_content"],
        previous_response_id=None,
        tools=[],
        top_logprobs=0,
        metadata=None,
    )
    assert answer.status == 200
    response = Response.model_validate(answer.json, strict=True)
    assert (response.safety_identifier, response.prompt_cache_key, response.max_tool_calls) == ("s", "k", 3)


BAD_FIELDS: list[tuple[dict[str, Any], str, str]] = [
    ({"previous_response_id": "resp_1"}, "previous_response_id", "unsupported_parameter"),
    ({"conversation": "conv_1"}, "conversation", "unsupported_parameter"),
    ({"background": True}, "background", "unsupported_parameter"),
    ({"prompt": {"id": "pmpt_1"}}, "prompt", "unsupported_parameter"),
    ({"truncation": "auto"}, "truncation", "unsupported_parameter"),
    ({"moderation": {"model": "m"}}, "moderation", "unsupported_parameter"),
    ({"n": 2}, "n", "unknown_parameter"),
    ({"messages": []}, "messages", "unknown_parameter"),
    ({"include": ["web_search_call.results"]}, "include[0]", "unsupported_value"),
    ({"top_logprobs": 2}, "top_logprobs", "invalid_value"),
    ({"top_logprobs": 6, "include": [LOGPROBS]}, "top_logprobs", "invalid_value"),
    ({"stream_options": {}}, "stream_options", "invalid_value"),
    ({"stream_options": {"include_usage": True}, "stream": True}, "stream_options.include_usage", "unknown_parameter"),
    ({"temperature": 3}, "temperature", "invalid_value"),
    ({"max_output_tokens": 0}, "max_output_tokens", "invalid_value"),
    ({"max_output_tokens": ROOM}, "max_output_tokens", "invalid_value"),
    ({"input": []}, "input", "invalid_value"),
    ({"input": [{"role": "user", "content": "x"}] * 6}, "input", "invalid_value"),
    ({"input": "x" * ROOM}, "input", "context_length_exceeded"),
    ({"input": "x" * (2 * ROOM + 1)}, "input", "context_length_exceeded"),
    ({"input": [{"role": "user"}]}, "input[0].content", "missing_required_parameter"),
    ({"input": [{"role": "tool", "content": "x"}]}, "input[0].role", "invalid_value"),
    ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0].type", "unsupported_value"),
    ({"input": [{"type": 7}]}, "input[0].type", "unsupported_value"),
    ({"input": [{"type": []}]}, "input[0].type", "unsupported_value"),
    ({"input": [{"role": "user", "content": "x", "call_id": "1"}]}, "input[0].call_id", "unknown_parameter"),
    (
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "u"}]}]},
        "input[0].content[0].type",
        "unsupported_value",
    ),
    (
        {"input": [{"type": "function_call_output", "call_id": "c", "output": "x"}]},
        "input[0].call_id",
        "invalid_value",
    ),
    (
        {"input": [{"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}", "namespace": "n"}]},
        "input[0].namespace",
        "invalid_type",
    ),
    ({"tools": [{"type": "web_search", "user_location": {}}]}, "tools[0].type", "unsupported_value"),
    ({"tools": [{"type": "function"}]}, "tools[0].name", "missing_required_parameter"),
    ({"tools": [{**CLOCK, "name": "no blanks"}]}, "tools[0].name", "invalid_value"),
    ({"tools": [{**CLOCK, "defer_loading": True}]}, "tools[0].defer_loading", "unknown_parameter"),
    ({"tools": [CLOCK], "tool_choice": {"type": "function", "name": "x"}}, "tool_choice.name", "invalid_value"),
    ({"tools": [CLOCK], "tool_choice": {"type": "web_search_preview"}}, "tool_choice", "invalid_value"),
    (
        {"tools": [CLOCK], "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": []}},
        "tool_choice.tools",
        "invalid_value",
    ),
    ({"tool_choice": "sometimes"}, "tool_choice", "invalid_value"),
    ({"text": {"format": {"type": "json_schema", "name": "n"}}}, "text.format.schema", "missing_required_parameter"),
    (
        {"text": {"format": {"type": "json_schema", "name": "no blanks", "schema": {}}}},
        "text.format.name",
        "invalid_value",
    ),
    (
        {"text": {"format": {"type": "json_schema", "name": "n", "schema": {"description": "x" * 500}}}},
        "text.format.schema",
        "invalid_value",
    ),
    ({"reasoning": {"effort": "very"}}, "reasoning.effort", "invalid_value"),
    ({"model": 1}, "model", "invalid_type"),
]


@pytest.mark.parametrize(
    ("fields", "param", "code"), BAD_FIELDS, ids=[f"{param}-{i}" for i, (_, param, _) in enumerate(BAD_FIELDS)]
)
async def test_bad_field_is_refused_by_its_name_here(
    server: Server, fields: dict[str, Any], param: str, code: str
) -> None:
    """400 with this API's name of the field, never chat's, before the engine sees anything."""
    answer = await respond(server, **fields)
    assert answer.status == 400
    assert answer.error["type"] == "invalid_request_error"
    assert (answer.error["param"], answer.error["code"]) == (param, code)
    assert not any(chats in answer.error["message"] for chats in ("'messages", "max_completion", "response_format"))
    assert server.engine.begun == []


async def test_refusal_of_storing_says_the_remedy(server: Server) -> None:
    """Who refers to an earlier response is told to send the whole input."""
    for fields in ({"previous_response_id": "resp_1"}, {"conversation": {"id": "c"}}):
        assert "'input'" in (await respond(server, **fields)).error["message"]


@pytest.mark.parametrize("stream", [True, False])
async def test_engines_refusal_is_in_this_apis_terms(server: Server, *, stream: bool) -> None:
    """What only the engine can find wrong with a schema names ``text.format``, and is a 400 even for a stream."""
    server.engine.refuse = "Invalid schema in 'response_format': no."
    server.engine.refuse_param = "response_format"
    answer = await respond(server, stream=stream)
    assert answer.status == 400
    assert (answer.error["param"], answer.error["message"]) == ("text.format", "Invalid schema in 'text.format': no.")


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_no_response_is_ever_found(server: Server, method: str) -> None:
    """404 that says why, for an answer just given too."""
    name = (await respond(server)).json["id"]
    answer = await server.ask(f"/v1/responses/{name}", method=method)
    assert answer.status == 404
    assert answer.error["code"] == "response_not_found"
    assert "stores no responses" in answer.error["message"]


async def test_unknown_model_and_stopping_server_are_refused(server: Server) -> None:
    """404 and 503, as on the other routes."""
    assert (await respond(server, model="nobody")).error["code"] == "model_not_found"
    server.services.lifecycle.phase = Phase.DRAINING
    assert (await respond(server)).status == 503
