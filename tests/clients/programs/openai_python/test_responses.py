"""The Responses API, plain: text, items, parsed answers and calls."""

import json
from typing import Any, Literal

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

QUESTION = "What is the capital of France?"
REPORT = "My red bicycle was stolen. Sort this report, as JSON."


class Report(BaseModel):
    """So narrow that any model fills it in a few tokens."""

    colour: Literal["red", "green"]
    urgent: bool


class Weather(BaseModel):
    """Look up the weather of a city."""

    city: Literal["Seoul", "Paris"]


WEATHER: Any = openai.pydantic_function_tool(Weather)
WEATHER_BY_HAND: Any = {
    "type": "function",
    "name": "Weather",
    "parameters": {
        "type": "object",
        "properties": {"city": {"enum": ["Seoul", "Paris"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}


def test_an_answer_is_whole(client: OpenAI, base: str, adapter: str) -> None:
    """Its text, its end, its usage, and an alias answers with its version."""
    answer = client.responses.create(model=base, input=QUESTION, temperature=0, max_output_tokens=24)
    assert "Paris" in answer.output_text
    assert (answer.object, answer.status, answer.model, answer.error) == ("response", "completed", base, None)
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens
    assert client.responses.create(model=adapter, input=QUESTION, max_output_tokens=16).model == f"{adapter}@1"


def test_an_answer_cut_short_says_so(client: OpenAI, base: str) -> None:
    """``incomplete``, with the reason."""
    answer = client.responses.create(model=base, input="Tell me a story about the sea.", max_output_tokens=16)
    assert answer.status == "incomplete"
    assert answer.incomplete_details is not None
    assert answer.incomplete_details.reason == "max_output_tokens"


def test_a_conversation_goes_on_with_what_was_answered(client: OpenAI, base: str) -> None:
    """The answer's own output is taken back as input, between instructions and further items."""
    items: Any = [{"role": "user", "content": [{"type": "input_text", "text": QUESTION}]}]
    first = client.responses.create(
        model=base, instructions="Be brief.", input=items, temperature=0, max_output_tokens=24
    )
    longer = [*items, *first.output, {"role": "user", "content": "And of Italy?"}]
    second = client.responses.create(model=base, instructions="Be brief.", input=longer, max_output_tokens=24)
    assert second.output_text
    assert first.usage is not None
    assert second.usage is not None
    assert second.usage.input_tokens > first.usage.input_tokens + first.usage.output_tokens


def test_log_probabilities_spell_the_answer(client: OpenAI, base: str) -> None:
    """Where they are asked for by ``include``."""
    answer = client.responses.create(
        model=base,
        input=QUESTION,
        temperature=0,
        max_output_tokens=24,
        top_logprobs=2,
        include=["message.output_text.logprobs"],
    )
    (message,) = answer.output
    assert message.type == "message"
    (content,) = message.content
    assert content.type == "output_text"
    assert "".join(token.token for token in content.logprobs or []).startswith(content.text)
    assert all(len(token.top_logprobs) == 2 for token in content.logprobs or [])


async def test_parse_gives_an_object_of_the_model(client: OpenAI, async_client: AsyncOpenAI, base: str) -> None:
    """``text_format`` with a pydantic model, synchronous and awaited."""
    options: Any = {"model": base, "input": REPORT, "text_format": Report, "max_output_tokens": 100}
    for answer in (client.responses.parse(**options), await async_client.responses.parse(**options)):
        assert isinstance(answer.output_parsed, Report)
        assert answer.output_parsed == Report.model_validate_json(answer.output_text)


@pytest.mark.parametrize("choice", ["required", {"type": "function", "name": "Weather"}], ids=["required", "named"])
def test_a_call_is_made_and_its_result_taken_back(client: OpenAI, base: str, choice: Any) -> None:
    """The whole round, with the call's id on both sides of it."""
    options: Any = {"model": base, "tools": [WEATHER_BY_HAND], "max_output_tokens": 100}
    question: Any = [{"role": "user", "content": "What is the weather in Seoul?"}]
    asked = client.responses.create(**options, input=question, tool_choice=choice, parallel_tool_calls=False)
    (call,) = asked.output
    assert call.type == "function_call"
    assert Weather.model_validate_json(call.arguments)
    result = {"type": "function_call_output", "call_id": call.call_id, "output": json.dumps({"degrees": 21})}
    options["input"] = [*question, *asked.output, result]
    told = client.responses.create(**options, tool_choice="none")
    assert told.output_text


def test_parse_gives_arguments_as_the_model(client: OpenAI, base: str) -> None:
    """``.parse`` with ``pydantic_function_tool``."""
    answer = client.responses.parse(
        model=base,
        input="What is the weather in Seoul?",
        tools=[WEATHER],
        tool_choice="required",
        max_output_tokens=200,
    )
    calls = [item for item in answer.output if item.type == "function_call"]
    assert calls
    assert all(isinstance(call.parsed_arguments, Weather) for call in calls)


def test_errors_are_the_sdks_exception_classes(client: OpenAI, base: str) -> None:
    """As on every other route."""
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="ws-nobody").responses.create(model=base, input=QUESTION)
    with pytest.raises(openai.NotFoundError):
        client.responses.create(model="nobody", input=QUESTION)
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model=base, input=QUESTION, temperature=9)
    assert caught.value.param == "temperature"
