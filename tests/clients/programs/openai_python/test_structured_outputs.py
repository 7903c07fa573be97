"""Structured outputs: ``response_format`` by hand, and from pydantic models by the SDK's helpers."""

import json
from typing import Any, Literal

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

MESSAGES: Any = [{"role": "user", "content": "My red bicycle was stolen. Sort this report, as JSON."}]


class Report(BaseModel):
    """So narrow that any model fills it in a few tokens."""

    colour: Literal["red", "green"]
    kind: Literal["theft", "loss"]
    urgent: bool


def test_a_json_object_is_one(client: OpenAI, base: str) -> None:
    """``json_object``: whatever is in it, it is an object."""
    answer = client.chat.completions.create(
        model=base,
        messages=[{"role": "user", "content": 'Say {"a": 1} as JSON, nothing else.'}],
        response_format={"type": "json_object"},
        temperature=0,
        max_tokens=200,
    )
    assert answer.choices[0].finish_reason == "stop"
    assert isinstance(json.loads(answer.choices[0].message.content or ""), dict)


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_fits_its_schema(client: OpenAI, base: str, *, stream: bool) -> None:
    """``json_schema``, strict: plain and streamed."""
    options: Any = {
        "model": base,
        "messages": MESSAGES,
        "max_tokens": 100,
        "response_format": {
            "type": "json_schema",
            "json_schema": {
                "name": "report",
                "strict": True,
                "schema": {
                    "type": "object",
                    "properties": {
                        "colour": {"enum": ["red", "green"]},
                        "parts": {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 3},
                    },
                    "required": ["colour", "parts"],
                    "additionalProperties": False,
                },
            },
        },
    }
    if stream:
        chunks = client.chat.completions.create(**options, stream=True)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    else:
        text = client.chat.completions.create(**options).choices[0].message.content or ""
    report = json.loads(text)
    assert report.keys() == {"colour", "parts"}
    assert report["colour"] in {"red", "green"}
    assert 2 <= len(report["parts"]) <= 3


def test_parse_gives_an_object_of_the_model(client: OpenAI, base: str) -> None:
    """``.parse`` with a pydantic model, also of several answers."""
    answer = client.chat.completions.parse(model=base, messages=MESSAGES, response_format=Report, max_tokens=100, n=2)
    for choice in answer.choices:
        assert isinstance(choice.message.parsed, Report)
        assert choice.message.parsed == Report.model_validate_json(choice.message.content or "")


async def test_asynchronous_parse_and_stream_give_one_too(async_client: AsyncOpenAI, base: str) -> None:
    """Awaited; and from the stream helper, whole at the end and in part before."""
    answer = await async_client.chat.completions.parse(
        model=base, messages=MESSAGES, response_format=Report, max_tokens=100
    )
    assert isinstance(answer.choices[0].message.parsed, Report)
    manager = async_client.chat.completions.stream(
        model=base, messages=MESSAGES, response_format=Report, max_tokens=100
    )
    async with manager as stream:
        parts = [event.parsed async for event in stream if event.type == "content.delta"]
        streamed = await stream.get_final_completion()
    assert isinstance(streamed.choices[0].message.parsed, Report)
    assert parts[-1] == streamed.choices[0].message.parsed.model_dump()


def test_an_answer_cut_short_is_the_sdks_own_error(client: OpenAI, base: str) -> None:
    """Half an object is never handed out as a whole one."""
    with pytest.raises(openai.LengthFinishReasonError):
        client.chat.completions.parse(model=base, messages=MESSAGES, response_format=Report, max_tokens=3)
