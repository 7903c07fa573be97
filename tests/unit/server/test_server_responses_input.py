"""``input`` of the Responses API: which messages the model is shown."""

import json
from typing import Any

import pytest

from services.server.chat.schema import CalledFunction, Message, ToolCall
from services.server.responses.items import items_of, messages_of
from tests.unit.server.harness import Server
from tests.unit.server.responding import prompt_of, respond


def call(name: str) -> dict[str, Any]:
    """A call's item, as an answer gives it."""
    return {
        "type": "function_call",
        "id": "fc_1",
        "call_id": name,
        "name": "f",
        "arguments": "{}",
        "status": "completed",
    }


def output(name: str, text: Any = "7") -> dict[str, Any]:
    """The item with what a call gave."""
    return {"type": "function_call_output", "call_id": name, "output": text}


def called(*names: str) -> list[ToolCall]:
    """The calls as chat has them."""
    return [ToolCall(id=name, function=CalledFunction(name="f", arguments="{}")) for name in names]


THOUGHT = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": [],
    "content": [{"type": "reasoning_text", "text": "Hm."}],
    "encrypted_content": None,
    "status": "completed",
}
SAID = {
    "type": "message",
    "id": "msg_1",
    "role": "assistant",
    "status": "completed",
    "content": [{"type": "output_text", "text": "Hello.", "annotations": [], "logprobs": []}],
}
INPUTS: dict[str, tuple[Any, list[Message]]] = {
    "text": ("hi", [Message(role="user", content="hi")]),
    "easy messages": (
        [{"role": "developer", "content": "rules"}, {"role": "user", "content": "a"}],
        [Message(role="developer", content="rules"), Message(role="user", content="a")],
    ),
    "parts": (
        [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": t} for t in "ab"]}],
        [Message(role="user", content="ab")],
    ),
    "a refusal": (
        [{"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}],
        [Message(role="assistant", content="No.")],
    ),
    "one turn": (
        [THOUGHT, SAID, call("a"), call("b"), output("b"), output("a", [{"type": "input_text", "text": "8"}])],
        [
            Message(role="assistant", content="Hello.", tool_calls=called("a", "b"), reasoning_content="Hm."),
            Message(role="tool", tool_call_id="b", content="7"),
            Message(role="tool", tool_call_id="a", content="8"),
        ],
    ),
    "calls one after the other": (
        [call("a"), output("a"), call("b"), output("b"), SAID],
        [
            Message(role="assistant", tool_calls=called("a")),
            Message(role="tool", tool_call_id="a", content="7"),
            Message(role="assistant", tool_calls=called("b")),
            Message(role="tool", tool_call_id="b", content="7"),
            Message(role="assistant", content="Hello."),
        ],
    ),
    "said twice": ([SAID, SAID], [Message(role="assistant", content="Hello.")] * 2),
    "thought after it spoke": (
        [SAID, THOUGHT, call("a")],
        [
            Message(role="assistant", content="Hello."),
            Message(role="assistant", tool_calls=called("a"), reasoning_content="Hm."),
        ],
    ),
    "cut while it thought": (
        [THOUGHT, {"role": "user", "content": "go on"}],
        [Message(role="assistant", content="", reasoning_content="Hm."), Message(role="user", content="go on")],
    ),
}


@pytest.mark.parametrize("name", INPUTS)
def test_items_become_messages(name: str) -> None:
    """Neighbouring items of one turn are one message of the assistant; everything else is a message of its own."""
    given, expected = INPUTS[name]
    assert messages_of(items_of(given)) == expected


async def test_encrypted_reasoning_shows_the_model_nothing(server: Server) -> None:
    """Reasoning that only its maker can read is accepted and left out."""
    sealed = {"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": "gAAAA"}
    assert (await respond(server, input=[sealed, {"role": "user", "content": "a"}])).status == 200
    assert "gAAAA" not in prompt_of(server)


async def test_output_is_taken_back_as_input(server: Server) -> None:
    """A conversation goes on with the items of its answer, as they were given."""
    first = (await respond(server)).json["output"]
    answer = await respond(server, input=[{"role": "user", "content": "hi"}, *first, {"role": "user", "content": "b"}])
    assert answer.status == 200, json.dumps(answer.json)
    assert prompt_of(server) == "user:hi\nassistant:I am tiny .\nuser:b\nassistant:"
