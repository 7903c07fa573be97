"""Chat completions, streamed: plain chunks, the SDK's helpers, and what lies beneath."""

import json
from typing import Any

import pytest
from openai import AsyncOpenAI, OpenAI

QUESTION: Any = [{"role": "user", "content": "What is the capital of France?"}]
STORY: Any = [{"role": "user", "content": "Tell me a story about the sea."}]


@pytest.fixture
def plain(client: OpenAI, base: str) -> str:
    """The answer that every stream of it must spell."""
    answer = client.chat.completions.create(model=base, messages=QUESTION, temperature=0, max_tokens=12)
    assert answer.choices[0].message.content
    return answer.choices[0].message.content


def test_chunks_spell_the_answer(client: OpenAI, base: str, plain: str) -> None:
    """The role first, then the text, then the reason, then the usage where it was asked for."""
    chunks = list(
        client.chat.completions.create(
            model=base,
            messages=QUESTION,
            temperature=0,
            max_tokens=12,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == plain
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1] if chunk.choices[0].finish_reason] == ["stop"]
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == chunks[-1].usage.prompt_tokens + chunks[-1].usage.completion_tokens


def test_streamed_answers_are_told_apart(client: OpenAI, base: str) -> None:
    """With ``n``, every chunk names the answer that it belongs to; log-probabilities come with their text."""
    texts: dict[int, str] = {0: "", 1: ""}
    tokens: dict[int, str] = {0: "", 1: ""}
    for chunk in client.chat.completions.create(
        model=base, messages=STORY, n=2, seed=7, max_tokens=6, stream=True, logprobs=True
    ):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            if choice.logprobs:
                tokens[choice.index] += "".join(token.token for token in choice.logprobs.content or [])
    assert texts[0] != texts[1]
    assert texts == tokens


def test_the_stream_helper_puts_the_answer_together(client: OpenAI, base: str, plain: str) -> None:
    """Its events grow to the answer that it then holds."""
    with client.chat.completions.stream(model=base, messages=QUESTION, temperature=0, max_tokens=24) as stream:
        grown = [event.snapshot for event in stream if event.type == "content.delta"]
        answer = stream.get_final_completion()
    assert answer.choices[0].message.content == grown[-1]
    assert grown[-1].startswith(plain)
    assert answer.choices[0].finish_reason == "stop"


async def test_the_asynchronous_helper_does_so_too(async_client: AsyncOpenAI, base: str, plain: str) -> None:
    """The same events, awaited."""
    manager = async_client.chat.completions.stream(model=base, messages=QUESTION, temperature=0, max_tokens=24)
    async with manager as stream:
        text = "".join([event.delta async for event in stream if event.type == "content.delta"])
        answer = await stream.get_final_completion()
    assert answer.choices[0].message.content == text
    assert text.startswith(plain)


async def test_asynchronous_chunks_spell_the_answer(async_client: AsyncOpenAI, base: str, plain: str) -> None:
    """A stream that is awaited."""
    stream = await async_client.chat.completions.create(
        model=base, messages=QUESTION, temperature=0, max_tokens=12, stream=True
    )
    assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == plain


def test_raw_answers_have_their_headers(client: OpenAI, base: str, plain: str) -> None:
    """The request's id, how long it took, how much more may be asked for; and the answer parses."""
    raw = client.chat.completions.with_raw_response.create(
        model=base, messages=QUESTION, temperature=0, max_tokens=12, extra_headers={"x-request-id": "client-1"}
    )
    answer = raw.parse()
    assert answer.choices[0].message.content == plain
    assert raw.headers["x-request-id"] == "client-1" == answer._request_id  # noqa: SLF001 - documented as public
    assert int(raw.headers["openai-processing-ms"]) > 0
    limit, remaining = (int(raw.headers[f"x-ratelimit-{name}-requests"]) for name in ("limit", "remaining"))
    assert 0 < remaining <= limit


def test_streaming_responses_are_read_line_by_line(client: OpenAI, base: str, plain: str) -> None:
    """Server-sent events, one a line, with ``[DONE]`` at the end."""
    with client.chat.completions.with_streaming_response.create(
        model=base, messages=QUESTION, temperature=0, max_tokens=12, stream=True
    ) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        *lines, last = [line.removeprefix("data: ") for line in response.iter_lines() if line]
    assert last == "[DONE]"
    assert "".join(json.loads(line)["choices"][0]["delta"].get("content") or "" for line in lines) == plain


def test_a_stream_may_be_left(client: OpenAI, base: str, plain: str) -> None:
    """Whoever closes one early has hindered nobody."""
    with client.chat.completions.create(model=base, messages=STORY, max_tokens=500, stream=True) as stream:
        next(stream)
    again = client.chat.completions.create(model=base, messages=QUESTION, temperature=0, max_tokens=12)
    assert again.choices[0].message.content == plain
