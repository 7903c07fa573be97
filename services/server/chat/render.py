"""Text to tokens: the base model's chat template and tokenizer; long texts off the event loop."""

import asyncio
import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from jinja2 import TemplateError

from services.server.chat.conversation import chars_of, conversation_of
from services.server.chat.hermes import without_tools
from services.server.chat.schema import Message
from services.server.chat.spelled import refuse_spelled
from services.server.chat.templates import variables_of
from services.server.chat.together import Together
from services.server.engine.protocol import Engine, Tokenizer
from services.server.errors import BadRequest

T = TypeVar("T")
_SHORT_CHARS = 2048  # about a millisecond's work; handing it to a thread and taking it back costs as much


class Renderer:
    """Renders and tokenizes short texts at once, and long ones in a worker thread.

    Each has a tokenizer of its own, for a Hugging Face tokenizer is for one thread at a time.

    Args:
        engine: its tokenizer is the base model's, never an adapter's.
        max_prompt_tokens: of the settings; 0 where the engine's context alone is the limit.
    """

    def __init__(self, engine: Engine, *, max_prompt_tokens: int = 0) -> None:
        self._at_once = engine.tokenizer
        self._together = Together(engine.tokenizer)
        self._in_thread = copy.deepcopy(engine.tokenizer)
        self._special_tokens = engine.tokenizer.special_tokens
        self._variables = variables_of(engine.tokenizer.chat_template)
        self._max_model_len = engine.max_model_len
        self._vocabulary = engine.vocabulary
        longest = engine.max_model_len - 1  # leaves room for an answer
        self._max_tokens = min(max_prompt_tokens or longest, longest)
        self._max_chars = self._max_tokens * engine.longest_token
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="render")

    def options(self, reasoning_effort: str | None) -> dict[str, Any]:
        """The template's variables that a request sets: of these the ones that the template knows."""
        if reasoning_effort is None:
            return {}
        asked = {"reasoning_effort": reasoning_effort, "enable_thinking": reasoning_effort != "none"}
        return {name: value for name, value in asked.items() if name in self._variables}

    async def chat(self, messages: list[Message], tools: list[dict[str, Any]], options: dict[str, Any]) -> list[int]:
        """The prompt's token ids, up to where the assistant begins to speak.

        Args:
            messages: the conversation.
            tools: functions that the model is told of, as OpenAI's JSON objects.
            options: see ``options``.

        Raises:
            BadRequest: a message the template cannot take, one that spells a special token, or a prompt over the context.
        """
        conversation = conversation_of(messages)
        chars = chars_of(conversation)
        self._fit_text(chars, "messages")
        refuse_spelled(self._special_tokens, conversation, tools)
        if "tools" in self._variables:
            options = {**options, "tools": tools or None}
        else:
            conversation = without_tools(conversation, tools)
        try:
            if chars <= _SHORT_CHARS:
                tokens = await self._together.encode(self._at_once.render(conversation, **options))
            else:
                tokens = await self._in_worker(lambda tokenizer: _rendered(tokenizer, conversation, options))
        except TemplateError as error:
            raise BadRequest(f"The model's chat template refuses these messages: {error}", param="messages") from error
        return self._fit(tokens, "messages")

    async def text(self, prompt: str | list[int]) -> list[int]:
        """The token ids of a completions prompt, given as text or as token ids.

        Raises:
            BadRequest: empty, token ids outside the vocabulary, or over the context.
        """
        if isinstance(prompt, list):
            if not all(0 <= token < self._vocabulary for token in prompt):
                raise BadRequest(
                    f"Invalid 'prompt': token ids are from 0 to {self._vocabulary - 1}.",
                    param="prompt",
                    code="invalid_value",
                )
            return self._fit(prompt, "prompt")
        self._fit_text(len(prompt), "prompt")
        tokens = await self._run(len(prompt), lambda tokenizer: tokenizer.encode(prompt))
        if not tokens:
            raise BadRequest("Invalid 'prompt': it holds no token.", param="prompt", code="invalid_value")
        return self._fit(tokens, "prompt")

    async def decode(self, tokens: list[int]) -> str:
        """The text of token ids, special tokens included."""
        return await self._run(len(tokens), lambda tokenizer: tokenizer.decode(tokens, skip_special_tokens=False))

    def close(self) -> None:
        """End the worker thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _fit_text(self, chars: int, param: str) -> None:
        """Refuse what cannot fit before the one thread spends seconds on it."""
        if chars > self._max_chars:
            raise self._too_long(f"{chars} characters", param)

    def _fit(self, tokens: list[int], param: str) -> list[int]:
        if len(tokens) > self._max_tokens:
            raise self._too_long(str(len(tokens)), param)
        return tokens

    def _too_long(self, has: str, param: str) -> BadRequest:
        limit = f"This model's maximum context length is {self._max_model_len} tokens; '{param}' has {has}."
        advice = "Shorten it and leave room for an answer."
        if self._max_tokens < self._max_model_len - 1:
            limit = f"'{param}' has {has}; this server takes prompts of {self._max_tokens} tokens (limits.max_prompt_tokens)."
            advice = "Shorten it."
        return BadRequest(f"{limit} {advice}", param=param, code="context_length_exceeded")

    async def _run(self, length: int, work: Callable[[Tokenizer], T]) -> T:
        return work(self._at_once) if length <= _SHORT_CHARS else await self._in_worker(work)

    async def _in_worker(self, work: Callable[[Tokenizer], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, self._in_thread)


def _rendered(tokenizer: Tokenizer, conversation: list[dict[str, Any]], options: dict[str, Any]) -> list[int]:
    (tokens,) = tokenizer.encode_rendered([tokenizer.render(conversation, **options)])
    return tokens
