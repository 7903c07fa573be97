"""The Responses API, streamed: events, the SDK's helper, and what lies beneath."""

from typing import Any, Literal

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

QUESTION = "What is the capital of France?"


class Report(BaseModel):
    """So narrow that any model fills it in a few tokens."""

    colour: Literal["red", "green"]
    urgent: bool


class Weather(BaseModel):
    """Look up the weather of a city."""

    city: Literal["Seoul", "Paris"]


@pytest.fixture
def plain(client: OpenAI, base: str) -> str:
    """The answer that every stream of it must spell."""
    return client.responses.create(model=base, input=QUESTION, temperature=0, max_output_tokens=24).output_text


async def test_events_spell_the_answer(client: OpenAI, async_client: AsyncOpenAI, base: str, plain: str) -> None:
    """Numbered without a gap, from created to completed; the same to both clients."""
    options: Any = {"model": base, "input": QUESTION, "temperature": 0, "max_output_tokens": 24, "stream": True}
    events = list(client.responses.create(**options))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert (events[0].type, events[-1].type) == ("response.created", "response.completed")
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == plain
    assert events[-1].response.output_text == plain
    awaited = [event.type async for event in await async_client.responses.create(**options)]
    assert awaited == [event.type for event in events]


def test_the_stream_helper_puts_the_answer_together(client: OpenAI, base: str, plain: str) -> None:
    """Its deltas grow to the answer that it then holds."""
    with client.responses.stream(model=base, input=QUESTION, temperature=0, max_output_tokens=24) as stream:
        grown = [event.snapshot for event in stream if event.type == "response.output_text.delta"]
        answer = stream.get_final_response()
    assert grown[-1] == answer.output_text == plain


async def test_the_helper_parses_formats_and_arguments(async_client: AsyncOpenAI, base: str) -> None:
    """A pydantic model as the format, and one as a function."""
    async with async_client.responses.stream(
        model=base, input="My red bicycle was stolen. JSON:", text_format=Report, max_output_tokens=100
    ) as stream:
        answer = await stream.get_final_response()
    assert isinstance(answer.output_parsed, Report)
    async with async_client.responses.stream(
        model=base,
        input="What is the weather in Seoul?",
        tools=[openai.pydantic_function_tool(Weather)],
        tool_choice="required",
        max_output_tokens=200,
    ) as stream:
        pieces = [event.delta async for event in stream if event.type == "response.function_call_arguments.delta"]
        called = await stream.get_final_response()
    calls = [item for item in called.output if item.type == "function_call"]
    assert calls
    assert all(isinstance(call.parsed_arguments, Weather) for call in calls)
    assert "".join(pieces) == "".join(call.arguments for call in calls)


def test_raw_and_streaming_responses_have_their_headers(client: OpenAI, base: str, plain: str) -> None:
    """How long it took, how much more may be asked for; and the answer parses."""
    options: Any = {"model": base, "input": QUESTION, "temperature": 0, "max_output_tokens": 24}
    raw = client.responses.with_raw_response.create(**options)
    assert raw.parse().output_text == plain
    assert int(raw.headers["openai-processing-ms"]) > 0
    assert int(raw.headers["x-ratelimit-remaining-requests"]) >= 0
    with client.responses.with_streaming_response.create(**options, stream=True) as response:
        names = [line for line in response.iter_lines() if line.startswith("event: ")]
    assert (names[0], names[-1]) == ("event: response.created", "event: response.completed")
