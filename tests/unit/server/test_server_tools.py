"""Function calls and JSON formats: what is asked of the engine, what the model is told, what the app reads."""

import json
from typing import Any

import pytest

from services.server.chat.hermes import without_tools
from services.server.chat.templates import variables_of
from services.server.engine.protocol import Delta
from tests.unit.server.fakes import FakeEngine, roomy_engine, two_calls
from tests.unit.server.harness import Server

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
CLOCK = {"type": "function", "function": {"name": "clock"}}
CALLS = [
    Delta(index=0, text="", tokens=2, reasoning="Which city? "),
    *two_calls("clock"),
]


@pytest.fixture
def engine() -> FakeEngine:
    """See ``roomy_engine``."""
    return roomy_engine()


async def test_plain_answer_holds_calls_and_no_content(server: Server) -> None:
    """Calls with their whole arguments, null content, the reasoning beside, and its tokens in the usage."""
    server.engine.script = CALLS
    answer = await server.chat(tools=[WEATHER, CLOCK])
    choice = answer.json["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"] == {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "reasoning_content": "Which city? ",
        "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Seoul"}'}},
            {"id": "call_2", "type": "function", "function": {"name": "clock", "arguments": "{}"}},
        ],
    }
    assert answer.json["usage"]["completion_tokens_details"] == {"reasoning_tokens": 2}


async def test_stream_gives_a_calls_name_once_and_its_arguments_in_pieces(server: Server) -> None:
    """Id, type and name in a call's first frame; joined, the arguments are the plain answer's."""
    server.engine.script = CALLS
    answer = await server.chat(tools=[WEATHER, CLOCK], stream=True)
    deltas = [event["choices"][0]["delta"] for event in answer.events if event != "[DONE]"]
    pieces = [call for delta in deltas for call in delta.get("tool_calls", [])]
    assert [piece["id"] for piece in pieces if "id" in piece] == ["call_1", "call_2"]
    assert pieces[0] == {
        "index": 0,
        "id": "call_1",
        "type": "function",
        "function": {"name": "weather", "arguments": ""},
    }
    assert "".join(piece["function"]["arguments"] for piece in pieces if piece["index"] == 0) == '{"city":"Seoul"}'
    assert [delta["reasoning_content"] for delta in deltas if "reasoning_content" in delta] == ["Which city? "]
    assert answer.events[-2]["choices"][0]["finish_reason"] == "tool_calls"


async def test_positions_of_a_call_are_reported_with_it(server: Server) -> None:
    """Log-probabilities are not lost where a delta holds a call in place of text."""
    delta = Delta(index=0, text="", tokens=1, tool_calls=CALLS[1].tool_calls, finish_reason="tool_calls", positions=[])
    server.engine.script = [delta]
    answer = await server.chat(tools=[WEATHER], logprobs=True)
    assert answer.json["choices"][0]["logprobs"] == {"content": [], "refusal": None}


CHOICES: list[tuple[Any, list[str], str]] = [
    (None, ["weather", "clock"], "auto"),
    ("auto", ["weather", "clock"], "auto"),
    ("required", ["weather", "clock"], "required"),
    ("none", [], "none"),
    ({"type": "function", "function": {"name": "clock"}}, ["clock"], "clock"),
    (
        {
            "type": "allowed_tools",
            "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "weather"}}]},
        },
        ["weather"],
        "required",
    ),
]


@pytest.mark.parametrize(("choice", "offered", "asked"), CHOICES, ids=[str(asked) for *_, asked in CHOICES])
async def test_choice_decides_which_functions_are_offered(
    server: Server, choice: Any, offered: list[str], asked: str
) -> None:
    """The engine is bound to the functions that may be called, and the model is told of no other."""
    await server.chat(tools=[WEATHER, CLOCK], **({} if choice is None else {"tool_choice": choice}))
    shape = server.engine.samplings[0].shape
    assert shape is not None
    assert [tool["function"]["name"] for tool in shape.tools] == offered
    assert shape.tool_choice == asked
    prompt = "".join(map(chr, server.engine.prompts[0]))
    assert [name for name in ("weather", "clock") if f'"name":"{name}"' in prompt] == offered


async def test_function_without_parameters_takes_none(server: Server) -> None:
    """OpenAI's default: an object without properties, so that a call's arguments are always an object."""
    await server.chat(tools=[CLOCK], parallel_tool_calls=False)
    shape = server.engine.samplings[0].shape
    assert shape is not None
    assert shape.tools[0]["function"]["parameters"] == {"type": "object", "properties": {}}
    assert not shape.parallel


FORMATS: list[tuple[dict[str, Any], dict[str, Any] | None]] = [
    ({"type": "text"}, None),
    ({"type": "json_object"}, {"type": "json_object"}),
    (
        {"type": "json_schema", "json_schema": {"name": "A", "schema": {"type": "object"}, "strict": None}},
        {"type": "json_schema", "json_schema": {"name": "A", "schema": {"type": "object"}, "strict": True}},
    ),
]


@pytest.mark.parametrize(("asked", "bound"), FORMATS, ids=["text", "json_object", "json_schema"])
async def test_format_binds_the_engine(server: Server, asked: dict[str, Any], bound: dict[str, Any] | None) -> None:
    """A schema is followed whether or not the client says strict."""
    await server.chat(response_format=asked)
    shape = server.engine.samplings[0].shape
    assert shape is not None
    assert shape.response_format == bound


def _deep(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(levels):
        schema = {"i": schema}
    return schema


REFUSED: list[tuple[dict[str, Any], str, str | None]] = [
    ({"tools": [WEATHER] * 4}, "tools", "invalid_value"),
    ({"tools": [WEATHER, WEATHER]}, "tools[1].function.name", "invalid_value"),
    ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0].type", "unsupported_value"),
    ({"tools": [{"type": "function"}]}, "tools[0].function", "missing_required_parameter"),
    ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name", "invalid_value"),
    ({"tools": [{"type": "function", "function": {"nom": "a"}}]}, "tools[0].function.nom", "unknown_parameter"),
    ({"tool_choice": "required"}, "tool_choice", None),
    ({"tools": [CLOCK], "tool_choice": "sometimes"}, "tool_choice", "invalid_value"),
    (
        {"tools": [CLOCK], "tool_choice": {"type": "function", "function": {"name": "moon"}}},
        "tool_choice.function.name",
        "invalid_value",
    ),
    ({"tools": [CLOCK], "tool_choice": {"type": "custom"}}, "tool_choice", "invalid_value"),
    ({"response_format": {"type": "xml"}}, "response_format.type", "invalid_value"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "missing_required_parameter"),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "A"}}},
        "response_format.json_schema.schema",
        "missing_required_parameter",
    ),
    (
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "A", "schema": {"description": "x" * 400}},
            }
        },
        "response_format.json_schema.schema",
        "invalid_value",
    ),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "A", "schema": _deep(7)}}},
        "response_format.json_schema.schema",
        "invalid_value",
    ),
    ({"tools": [{"type": "function", "function": {"name": "f", "parameters": _deep(9)}}]}, "tools", "invalid_value"),
    (
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "A", "schema": {"type": "string", "pattern": "^(.{1,10}x){10}$"}},
            }
        },
        "response_format.json_schema.schema",
        "invalid_value",
    ),
    ({"reasoning_effort": "enormous"}, "reasoning_effort", "invalid_value"),
]


@pytest.mark.parametrize(
    ("fields", "param", "code"), REFUSED, ids=[f"{param}-{i}" for i, (_, param, _) in enumerate(REFUSED)]
)
async def test_what_cannot_be_is_refused_by_name(
    server: Server, fields: dict[str, Any], param: str, code: str | None
) -> None:
    """400 before the engine is asked; ``param`` names the field."""
    answer = await server.chat(**fields)
    assert (answer.status, answer.error["param"], answer.error["code"]) == (400, param, code)
    assert not server.engine.begun


async def test_result_reaches_the_model(server: Server) -> None:
    """A call and its result are part of the conversation, for a template without tools as text."""
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Seoul"}'}}
    messages = [
        {"role": "user", "content": "Rain?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "dry"},
    ]
    answer = await server.chat(messages=messages, tools=[WEATHER])
    assert answer.status == 200
    prompt = "".join(map(chr, server.engine.prompts[0]))
    assert '<tool_call>\n{"name":"weather","arguments":{"city":"Seoul"}}\n</tool_call>' in prompt
    assert "user:<tool_response>\ndry\n</tool_response>" in prompt


@pytest.mark.parametrize("depth", [950, 2000, 4000])
async def test_a_call_nested_however_deeply_is_the_clients(server: Server, depth: int) -> None:
    """What cannot be read as JSON is put into the prompt as it was written: too long or not, never a fault."""
    function = {"name": "weather", "arguments": '{"city": ' + "[" * depth + "]" * depth + "}"}
    call = {"id": "c1", "type": "function", "function": function}
    turns = [
        {"role": "user", "content": "q"},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "8"},
    ]
    assert (await server.chat(messages=turns)).status in {200, 400}


def test_tools_join_the_system_message_that_is_there() -> None:
    """One system message at most, the app's own text first."""
    conversation = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Rain?"}]
    told = without_tools(conversation, [WEATHER])
    assert [message["role"] for message in told] == ["system", "user"]
    assert told[0]["content"].startswith("Be brief.\n\n")
    assert json.dumps(WEATHER, separators=(",", ":")) in told[0]["content"]
    assert without_tools(conversation, []) == conversation


def test_variables_of_a_template_are_those_it_reads() -> None:
    """Known through branches, through Hugging Face's own tag and through named templates; a broken template knows none."""
    template = "{% if tools %}{{ tools }}{% endif %}{% generation %}{{ enable_thinking }}{% endgeneration %}"
    assert {"tools", "enable_thinking"} <= variables_of(template)
    assert "tools" in variables_of({"default": "{{ messages }}", "tool_use": template})
    assert not variables_of("{% if")
    assert not variables_of(None)


async def test_template_that_knows_tools_and_thinking_is_given_them(server: Server) -> None:
    """The functions as the app sent them, and the effort in the words that templates read."""
    tokenizer = server.engine.fake_tokenizer
    tokenizer.chat_template = "{{ tools }}{{ enable_thinking }}"
    rebuilt = Server(server.plan.paths.root, engine=server.engine)
    await rebuilt.chat(tools=[CLOCK], reasoning_effort="none")
    assert tokenizer.options["enable_thinking"] is False
    assert tokenizer.options["tools"][0]["function"]["name"] == "clock"
    assert "reasoning_effort" not in tokenizer.options
