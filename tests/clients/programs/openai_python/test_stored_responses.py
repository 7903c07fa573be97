"""Stored responses: conversations by ``previous_response_id``, as OpenAI documents them, and what was stored."""

import json
import os
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI

QUESTION = "What is the capital of France?"
WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "parameters": {
        "type": "object",
        "properties": {"city": {"enum": ["Seoul", "Paris"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}


def test_a_conversation_goes_on_by_its_id(client: OpenAI, base: str) -> None:
    """The new input alone is sent; what the model is told is what the whole conversation as input tells it."""
    options: Any = {"model": base, "temperature": 0, "max_output_tokens": 24}
    first = client.responses.create(**options, input=QUESTION)
    second = client.responses.create(**options, input="And of Italy?", previous_response_id=first.id)
    items: Any = [{"role": "user", "content": QUESTION}, *first.output, {"role": "user", "content": "And of Italy?"}]
    whole = client.responses.create(**options, input=items, store=False)
    assert second.previous_response_id == first.id
    assert second.output_text == whole.output_text
    assert second.usage is not None
    assert whole.usage is not None
    assert second.usage.input_tokens == whole.usage.input_tokens


def test_a_stored_response_is_retrieved_listed_and_deleted(client: OpenAI, base: str) -> None:
    """The same object; its input items, those before it included, in pages; and then nothing."""
    first = client.responses.create(model=base, input=QUESTION, max_output_tokens=24)
    second = client.responses.create(
        model=base, input="And of Italy?", previous_response_id=first.id, max_output_tokens=16
    )
    assert client.responses.retrieve(second.id) == second
    items = list(client.responses.input_items.list(second.id, limit=1, order="asc"))
    assert [getattr(item, "role", None) for item in items] == ["user", "assistant", "user"]
    assert items[1].id == first.output[0].id
    client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(first.id)
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model=base, input="And?", previous_response_id=second.id)
    assert (caught.value.code, caught.value.param) == ("previous_response_not_found", "previous_response_id")


async def test_a_stream_is_stored_when_it_is_complete(async_client: AsyncOpenAI, base: str) -> None:
    """As its last event told it, and it can be gone on from; at temperature 0, for a sampled answer may be cut off."""
    async with async_client.responses.stream(model=base, input=QUESTION, temperature=0, max_output_tokens=24) as stream:
        async for _ in stream:
            pass
        told = await stream.get_final_response()
    found = await async_client.responses.retrieve(told.id)
    assert (found.output_text, found.status, found.usage) == (told.output_text, told.status, told.usage)
    answer = await async_client.responses.create(
        model=base, input="And of Italy?", previous_response_id=told.id, max_output_tokens=16
    )
    assert answer.output_text


def test_a_call_is_answered_by_its_output_alone(client: OpenAI, base: str) -> None:
    """The round of a tool, with nothing repeated."""
    asked = client.responses.create(
        model=base,
        input="What is the weather in Seoul?",
        tools=[WEATHER],
        tool_choice="required",
        parallel_tool_calls=False,
        max_output_tokens=100,
    )
    (call,) = asked.output
    assert call.type == "function_call"
    told = client.responses.create(
        model=base,
        previous_response_id=asked.id,
        input=[{"type": "function_call_output", "call_id": call.call_id, "output": json.dumps({"degrees": 21})}],
        tools=[WEATHER],
        tool_choice="none",
        max_output_tokens=24,
    )
    assert told.output_text


def test_a_response_is_its_keys_alone_and_may_stay_unstored(client: OpenAI, base: str, adapter: str) -> None:
    """Another key finds nothing of it; with ``store=False`` its own key finds nothing either."""
    other = client.with_options(api_key=os.environ["NARROW_KEY"])
    mine = client.responses.create(model=adapter, input=QUESTION, max_output_tokens=16)
    unstored = client.responses.create(model=base, input=QUESTION, max_output_tokens=16, store=False)
    for caller, name in ((other, mine.id), (client, unstored.id)):
        with pytest.raises(openai.NotFoundError):
            caller.responses.retrieve(name)
        with pytest.raises(openai.BadRequestError):
            caller.responses.create(model=adapter, input="And?", previous_response_id=name)
