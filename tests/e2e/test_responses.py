"""The Responses API on the real engine and the real model, asked by the official client, which validates strictly."""

import json
from typing import Any, Literal

import openai
import pydantic
import pytest
from openai.types.responses import Response, ResponseFunctionToolCall

from tests.e2e.asking import ANSWERS, MESSAGES
from tests.e2e.serving import ServerProcess

pytestmark = pytest.mark.e2e

ASKED = str(MESSAGES[0]["content"])
WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "description": "The weather of a city.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string", "enum": ["Seoul", "Busan"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}


class Verdict(pydantic.BaseModel):
    """What an app wants to read."""

    word: Literal["yes", "no"]


@pytest.fixture
def client(server: ServerProcess) -> openai.OpenAI:
    """The official client at its strictest."""
    return openai.OpenAI(
        base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=120, _strict_response_validation=True
    )


def streamed(client: openai.OpenAI, **options: Any) -> Response:
    """The response that the SDK puts together from the events."""
    with client.responses.stream(**options) as stream:
        for _ in stream:
            pass
        return stream.get_final_response()


def test_adapter_answers_as_in_chat_plain_and_streamed(client: openai.OpenAI) -> None:
    """The learned words, the version's name, the usage; then the conversation goes on with the answer's items."""
    plain = client.responses.create(model="acme", input=ASKED, temperature=0)
    assert (plain.model, plain.output_text, plain.status) == ("acme@1", ANSWERS[1], "completed")
    whole = streamed(client, model="acme", input=ASKED, temperature=0)
    assert (whole.model, whole.output_text) == ("acme@1", ANSWERS[1])
    assert plain.usage is not None
    assert whole.usage is not None
    assert plain.usage.output_tokens == whole.usage.output_tokens > 5
    history: Any = [{"role": "user", "content": ASKED}, *plain.output, {"role": "user", "content": "Again?"}]
    assert client.responses.create(model="acme", input=history, max_output_tokens=4).status == "incomplete"


def test_functions_and_formats_bind_the_answer(client: openai.OpenAI) -> None:
    """A required call fits its schema, streamed too; a parsed answer is one of what may be said."""
    asked: Any = {
        "model": "acme",
        "input": "How is the weather in Seoul?",
        "tools": [WEATHER],
        "tool_choice": "required",
    }
    for response in (client.responses.create(**asked, temperature=0), streamed(client, **asked, temperature=0)):
        (call,) = (item for item in response.output if isinstance(item, ResponseFunctionToolCall))
        assert call.name == "weather"
        assert json.loads(call.arguments)["city"] in {"Seoul", "Busan"}
        assert call.call_id
    parsed = client.responses.parse(model="acme", input="Is water wet?", text_format=Verdict, max_output_tokens=64)
    assert parsed.output_parsed is not None


def test_logprobs_cover_the_text(client: openai.OpenAI) -> None:
    """Joined, the tokens are the text, and each has as many alternatives as asked for."""
    response = client.responses.create(
        model="acme", input=ASKED, temperature=0, include=["message.output_text.logprobs"], top_logprobs=2
    )
    (message,) = response.output
    assert message.type == "message"
    (part,) = message.content
    assert part.type == "output_text"
    assert part.logprobs is not None
    assert "".join(entry.token for entry in part.logprobs).startswith(ANSWERS[1])
    assert all(len(entry.top_logprobs) == 2 for entry in part.logprobs)


def test_schema_that_cannot_be_enforced_names_this_apis_field(client: openai.OpenAI) -> None:
    """What vLLM refuses is told as ``text.format``, before a stream begins."""
    schema = {"type": "object", "properties": {"n": {"type": "integer", "multipleOf": 3}}}
    text: Any = {"format": {"type": "json_schema", "name": "n", "schema": schema}}
    with pytest.raises(openai.BadRequestError) as raised:
        client.responses.create(model="acme", input=ASKED, text=text, stream=True)
    assert raised.value.param == "text.format"
