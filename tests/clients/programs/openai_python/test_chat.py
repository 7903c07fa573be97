"""Chat completions, plain."""

import asyncio
from typing import Any

from openai import AsyncOpenAI, OpenAI

QUESTION: Any = [{"role": "user", "content": "What is the capital of France?"}]
STORY: Any = [{"role": "user", "content": "Tell me a story about the sea."}]
FAVOURITE = 28  # any token of the vocabulary


def test_an_answer_is_whole(client: OpenAI, base: str) -> None:
    """Who answered, why it ended, what it used; the same at temperature 0."""
    first, second = (
        client.chat.completions.create(model=base, messages=QUESTION, temperature=0, max_tokens=24) for _ in range(2)
    )
    assert (first.model, first.object, first.choices[0].message.role) == (base, "chat.completion", "assistant")
    assert "Paris" in (first.choices[0].message.content or "")
    assert first.choices[0].message.content == second.choices[0].message.content
    assert first.id != second.id
    assert first.choices[0].finish_reason == "stop"
    assert first.usage is not None
    assert first.usage.total_tokens == first.usage.prompt_tokens + first.usage.completion_tokens
    assert first.usage.prompt_tokens_details is not None
    assert first.usage.completion_tokens_details is not None


def test_an_alias_answers_with_its_version(client: OpenAI, adapter: str) -> None:
    """By alias or pinned, ``model`` says who answered."""
    for name in (adapter, f"{adapter}@1"):
        answer = client.chat.completions.create(model=name, messages=QUESTION, max_tokens=1)
        assert answer.model == f"{adapter}@1"


def test_all_kinds_of_messages_are_read(client: OpenAI, base: str) -> None:
    """Developer and system, a conversation with earlier answers, and text in parts say the same as in one piece."""
    conversations: list[Any] = [
        [
            {"role": role, "content": content("Answer in one word.")},
            {"role": "user", "content": content("2 + 2?"), "name": "someone"},
            {"role": "assistant", "content": content("4")},
            {"role": "user", "content": content("And the capital of France?")},
        ]
        for role in ("developer", "system")
        for content in (str, lambda text: [{"type": "text", "text": text}])
    ]
    answers = [
        client.chat.completions.create(model=base, messages=messages, temperature=0, max_tokens=8)
        for messages in conversations
    ]
    assert len({answer.choices[0].message.content for answer in answers}) == 1
    assert len({answer.usage.prompt_tokens for answer in answers if answer.usage}) == 1


def test_sampling_options_take_effect(client: OpenAI, base: str) -> None:
    """A seed repeats, ``n`` counts, a bias rules, a stop string and a limit end."""
    create = client.chat.completions.create
    seeded = [
        [choice.message.content for choice in create(model=base, messages=STORY, n=2, seed=7, max_tokens=8).choices]
        for _ in range(2)
    ]
    assert seeded[0] == seeded[1]
    assert seeded[0][0] != seeded[0][1]
    biased = create(model=base, messages=STORY, logit_bias={str(FAVOURITE): 100}, max_tokens=4, logprobs=True)
    assert biased.choices[0].logprobs is not None
    assert len({token.token for token in biased.choices[0].logprobs.content or []}) == 1
    stopped = create(model=base, messages=QUESTION, temperature=0, stop=["Paris"], max_tokens=24)
    assert stopped.choices[0].finish_reason == "stop"
    assert "Paris" not in (stopped.choices[0].message.content or "")
    cut = create(model=base, messages=STORY, max_completion_tokens=3, presence_penalty=0.5, frequency_penalty=0.5)
    assert cut.choices[0].finish_reason == "length"
    assert cut.usage is not None
    assert cut.usage.completion_tokens == 3


def test_log_probabilities_spell_the_answer(client: OpenAI, base: str) -> None:
    """Each token with the likeliest at its place, by text and by bytes."""
    answer = client.chat.completions.create(
        model=base, messages=QUESTION, temperature=0, max_tokens=6, logprobs=True, top_logprobs=2
    )
    assert answer.choices[0].logprobs is not None
    tokens = answer.choices[0].logprobs.content or []
    text = answer.choices[0].message.content
    assert "".join(token.token for token in tokens) == text
    assert b"".join(bytes(token.bytes or []) for token in tokens).decode() == text
    assert all(len(token.top_logprobs) == 2 for token in tokens)
    assert all(token.top_logprobs[0].logprob == token.logprob <= 0 for token in tokens)


def test_options_without_effect_are_accepted(client: OpenAI, base: str) -> None:
    """What OpenAI's own server takes and an appliance has no use for changes nothing."""
    plain = client.chat.completions.create(model=base, messages=QUESTION, temperature=0, max_tokens=8)
    answer = client.chat.completions.create(
        model=base,
        messages=QUESTION,
        temperature=0,
        max_tokens=8,
        user="someone",
        safety_identifier="someone",
        metadata={"team": "support"},
        store=False,
        service_tier="auto",
        prompt_cache_key="support",
        reasoning_effort="low",
        verbosity="low",
        parallel_tool_calls=True,
    )
    assert answer.choices[0].message.content == plain.choices[0].message.content


def test_a_prompt_asked_before_is_counted_as_cached(client: OpenAI, base: str) -> None:
    """``cached_tokens`` says how much of a long prompt needed no work the second time."""
    messages: Any = [{"role": "user", "content": "The sea is wide and deep. " * 60}]
    answers = [client.chat.completions.create(model=base, messages=messages, max_tokens=1) for _ in range(2)]
    assert answers[1].usage is not None
    assert answers[1].usage.prompt_tokens_details is not None
    assert answers[1].usage.prompt_tokens_details.cached_tokens
    assert answers[1].usage.prompt_tokens_details.cached_tokens <= answers[1].usage.prompt_tokens


async def test_asynchronous_requests_run_together(async_client: AsyncOpenAI, base: str, adapter: str) -> None:
    """Several at once, of several models, each gets its own answer."""
    names = [base, adapter, base, adapter]
    answers = await asyncio.gather(
        *(
            async_client.chat.completions.create(model=name, messages=QUESTION, temperature=0, max_tokens=8)
            for name in names
        )
    )
    assert [answer.model.partition("@")[0] for answer in answers] == names
    assert len({answer.choices[0].message.content for answer in answers}) == 2
