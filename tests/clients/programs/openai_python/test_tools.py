"""Tools. A tiny model chooses none by itself: ``required`` and named choices bind any model."""

import json
from typing import Any, Literal

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

MESSAGES: Any = [{"role": "user", "content": "What is the weather in Seoul?"}]


class Weather(BaseModel):
    """Look up the weather of a city."""

    city: Literal["Seoul", "Paris"]
    celsius: bool


class Clock(BaseModel):
    """Tell the time of a city."""

    city: Literal["Seoul", "Paris"]


FUNCTIONS: dict[str, type[BaseModel]] = {"Weather": Weather, "Clock": Clock}
WEATHER: Any = openai.pydantic_function_tool(Weather)
CLOCK: Any = openai.pydantic_function_tool(Clock)
NAMED: Any = {"type": "function", "function": {"name": "Clock"}}
ALLOWED: Any = {
    "type": "allowed_tools",
    "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "Clock"}}]},
}


def test_a_required_call_is_made(client: OpenAI, base: str) -> None:
    """One or more, of the functions that were offered, with arguments that fit."""
    answer = client.chat.completions.create(
        model=base, messages=MESSAGES, tools=[WEATHER, CLOCK], tool_choice="required", max_tokens=200
    )
    assert answer.choices[0].finish_reason == "tool_calls"
    calls = answer.choices[0].message.tool_calls or []
    assert calls
    assert len({call.id for call in calls}) == len(calls)
    for call in calls:
        assert call.type == "function"
        FUNCTIONS[call.function.name].model_validate_json(call.function.arguments)


@pytest.mark.parametrize("choice", [NAMED, ALLOWED], ids=["named", "allowed"])
def test_a_named_function_is_the_one_that_is_called(client: OpenAI, base: str, choice: Any) -> None:
    """By ``tool_choice`` or as the only one allowed; one call, where calls may not be parallel."""
    answer = client.chat.completions.create(
        model=base,
        messages=MESSAGES,
        tools=[WEATHER, CLOCK],
        tool_choice=choice,
        parallel_tool_calls=False,
        max_tokens=200,
    )
    (call,) = answer.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert call.function.name == "Clock"
    assert Clock.model_validate_json(call.function.arguments)


def test_no_call_is_made_where_none_may_be(client: OpenAI, base: str) -> None:
    """``none`` is the answer without any tool; ``auto`` leaves it to the model and takes either."""
    options: Any = {"model": base, "messages": MESSAGES, "temperature": 0, "max_tokens": 24}
    plain = client.chat.completions.create(**options)
    none = client.chat.completions.create(**options, tools=[WEATHER], tool_choice="none")
    assert none.choices[0].message.content == plain.choices[0].message.content
    assert not none.choices[0].message.tool_calls
    auto = client.chat.completions.create(**options, tools=[WEATHER], tool_choice="auto")
    assert auto.usage is not None
    assert plain.usage is not None
    assert auto.usage.prompt_tokens > plain.usage.prompt_tokens, "the model was told of the function"
    assert auto.choices[0].message.content or auto.choices[0].message.tool_calls


def test_streamed_deltas_make_the_call(client: OpenAI, base: str) -> None:
    """Its id and name once, its arguments in pieces, and the reason at the end."""
    ids: list[str] = []
    names: list[str] = []
    arguments: list[str] = []
    reasons: list[str] = []
    for chunk in client.chat.completions.create(
        model=base,
        messages=MESSAGES,
        tools=[WEATHER, CLOCK],
        tool_choice=NAMED,
        parallel_tool_calls=False,
        max_tokens=200,
        stream=True,
    ):
        reasons += [chunk.choices[0].finish_reason] if chunk.choices[0].finish_reason else []
        for call in chunk.choices[0].delta.tool_calls or []:
            assert call.index == 0
            assert call.function is not None
            ids += [call.id] if call.id else []
            names += [call.function.name] if call.function.name else []
            arguments.append(call.function.arguments or "")
    assert (len(ids), names) == (1, ["Clock"])
    assert Clock.model_validate_json("".join(arguments))
    assert len(arguments) > 2
    assert reasons == ["stop"], "as OpenAI's own where the choice is a name: the model had none"


def test_parse_gives_arguments_as_the_model(client: OpenAI, base: str) -> None:
    """``.parse`` with ``pydantic_function_tool``."""
    answer = client.chat.completions.parse(
        model=base, messages=MESSAGES, tools=[WEATHER], tool_choice="required", max_tokens=200
    )
    for call in answer.choices[0].message.tool_calls or []:
        assert isinstance(call.function.parsed_arguments, Weather)
    assert answer.choices[0].message.tool_calls


async def test_the_stream_helper_tells_when_a_call_is_complete(async_client: AsyncOpenAI, base: str) -> None:
    """With its arguments parsed."""
    manager = async_client.chat.completions.stream(
        model=base, messages=MESSAGES, tools=[WEATHER], tool_choice="required", max_tokens=200
    )
    async with manager as stream:
        events = [event async for event in stream if event.type == "tool_calls.function.arguments.done"]
        answer = await stream.get_final_completion()
    calls = answer.choices[0].message.tool_calls or []
    assert len(events) == len(calls) > 0
    assert all(isinstance(event.parsed_arguments, Weather) for event in events)
    assert [event.arguments for event in events] == [call.function.arguments for call in calls]


def test_a_result_goes_back_to_the_model(client: OpenAI, base: str) -> None:
    """The whole round: a call, its result, an answer in words."""
    asked = client.chat.completions.create(
        model=base, messages=MESSAGES, tools=[WEATHER], tool_choice="required", max_tokens=200
    )
    message: Any = asked.choices[0].message
    results: Any = [
        {"role": "tool", "tool_call_id": call.id, "content": json.dumps({"degrees": 21})}
        for call in message.tool_calls or []
    ]
    told = client.chat.completions.create(
        model=base,
        messages=[*MESSAGES, message, *results],
        tools=[WEATHER],
        tool_choice="none",
        max_tokens=24,
    )
    assert told.choices[0].message.content
