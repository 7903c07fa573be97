"""Text completions.

OpenAI's own server answers null where the SDK's types know none: for the first token's log-probability under ``echo``, and as
``finish_reason`` of all chunks but the last. There the SDK is not strict, as it never is by itself.
"""

from collections.abc import AsyncIterator, Iterator

import pytest
from openai import AsyncOpenAI, OpenAI

PROMPT = "The capital of France is"


@pytest.fixture
def lenient() -> Iterator[OpenAI]:
    """The client as apps make it."""
    with OpenAI(max_retries=0) as client:
        yield client


@pytest.fixture
async def lenient_async() -> AsyncIterator[AsyncOpenAI]:
    """The asynchronous one, likewise."""
    async with AsyncOpenAI(max_retries=0) as client:
        yield client


def test_texts_and_token_ids_are_continued(client: OpenAI, base: str) -> None:
    """One text, several, and the token ids that the log-probabilities of one showed."""
    one = client.completions.create(model=base, prompt=PROMPT, temperature=0, max_tokens=4)
    assert (one.object, one.model) == ("text_completion", base)
    assert "Paris" in one.choices[0].text
    two = client.completions.create(model=base, prompt=["1, 2, 3,", PROMPT], temperature=0, max_tokens=4)
    assert [choice.index for choice in two.choices] == [0, 1]
    assert two.choices[1].text == one.choices[0].text
    tokens = client.completions.create(model=base, prompt=[[28, 28], [28]], temperature=0, max_tokens=2)
    assert len(tokens.choices) == 2
    assert tokens.usage is not None
    assert tokens.usage.prompt_tokens == 3


def test_echo_has_the_prompts_log_probabilities(lenient: OpenAI, base: str) -> None:
    """Nothing predicts the first token; every other has a likelihood and its place in the text."""
    echoed = lenient.completions.create(model=base, prompt=PROMPT, echo=True, logprobs=2, max_tokens=1, temperature=0)
    logprobs = echoed.choices[0].logprobs
    assert logprobs is not None
    assert "".join(logprobs.tokens or []) == echoed.choices[0].text
    assert echoed.choices[0].text.startswith(PROMPT)
    assert (logprobs.text_offset or [])[0] == 0
    assert len(logprobs.token_logprobs or []) == len(logprobs.text_offset or []) == len(logprobs.tokens or [])


async def test_streams_spell_the_same(lenient: OpenAI, lenient_async: AsyncOpenAI, base: str) -> None:
    """Synchronous and asynchronous, with the usage at the end."""
    plain = lenient.completions.create(model=base, prompt=PROMPT, temperature=0, max_tokens=8)
    chunks = list(
        lenient.completions.create(
            model=base,
            prompt=PROMPT,
            temperature=0,
            max_tokens=8,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == plain.choices[0].text
    assert chunks[-1].usage == plain.usage
    stream = await lenient_async.completions.create(model=base, prompt=PROMPT, temperature=0, max_tokens=8, stream=True)
    assert "".join([chunk.choices[0].text async for chunk in stream]) == plain.choices[0].text
