"""Streams that the server breaks off. Run by itself and last: it costs the server its life."""

import contextlib
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI

# No end-of-turn token: the answer is still running when the engine ends.
ENDLESS: Any = {
    "messages": [{"role": "user", "content": "Tell me a very long story about the sea."}],
    "logit_bias": {"2": -100},
    "max_tokens": 1500,
}


async def test_half_an_answer_raises(client: OpenAI, async_client: AsyncOpenAI, base: str, adapter: str) -> None:
    """Neither client, nor the helper, takes it for a whole one."""
    async with contextlib.AsyncExitStack() as streams:
        plain = streams.enter_context(client.chat.completions.create(model=base, stream=True, **ENDLESS))
        helper = streams.enter_context(client.chat.completions.stream(model=adapter, **ENDLESS))
        awaited = await streams.enter_async_context(
            await async_client.chat.completions.create(model=base, stream=True, **ENDLESS)
        )
        next(plain)
        next(iter(helper))
        await anext(awaited)
        print("streaming", flush=True)  # noqa: T201 - whoever breaks the streams waits for it
        with pytest.raises(openai.APIError, match="engine failed"):
            list(plain)
        with pytest.raises(openai.APIError, match="engine failed"):
            helper.get_final_completion()
        with pytest.raises(openai.APIError, match="engine failed"):
            [chunk async for chunk in awaited]
