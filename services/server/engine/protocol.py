"""What the server asks of an inference engine. ``vllm.VllmEngine`` is the real one; tests write their own."""

import re
from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec


class EngineError(Exception):
    """The engine could not do what was asked; it lives on."""


class EngineDead(EngineError):
    """The engine is gone; nothing will be answered any more."""


class EngineStuck(EngineDead):
    """The engine's process runs, and answers nothing any more."""


class EngineBusy(EngineError):
    """The engine cannot say yet whether it takes the request; the message is for the client, who may send it again."""


class RequestRefused(EngineError):
    """The engine found the request's parameters wrong; the message is for the client.

    Args:
        message: what is wrong.
        param: the request's field it is about, where that is known.
    """

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class EngineAdapter(msgspec.Struct, frozen=True):
    """One version as the engine knows it.

    Attributes:
        name: unique to the version, such as ``acme-support@7``; the prefix cache is keyed by it.
        engine_id: unique to this load, 1 or more.
        path: the version's immutable folder.
    """

    name: str
    engine_id: int
    path: Path


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """What form a chat answer may take, and how its text is to be read.

    Attributes:
        tools: functions that may be called, as OpenAI's JSON objects.
        tool_choice: ``auto``, ``required``, or the one function that must be called; without ``tools`` it has no meaning.
        parallel: whether one answer may call several functions.
        response_format: OpenAI's JSON object; None for free text.
        template_options: variables of the chat template that the prompt was rendered with.
    """

    tools: list[dict[str, Any]] = []
    tool_choice: str = "auto"
    parallel: bool = True
    response_format: dict[str, Any] | None = None
    template_options: dict[str, Any] = {}


class Sampling(msgspec.Struct, frozen=True, kw_only=True):
    """How to choose tokens, in the engine's terms and already checked.

    Attributes:
        max_tokens: at most this many tokens in an answer.
        logprobs: number of alternatives to report per token; None for no log-probabilities at all.
        prompt_logprobs: the same for the prompt's own tokens.
        logit_bias: token id -> addition to its logit.
        seed: of this request's own random generator.
        shape: of a chat answer; None leaves the text as it is generated.
    """

    max_tokens: int
    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    logit_bias: dict[int, float] | None = None
    ignore_eos: bool = False
    shape: Shape | None = None


class TokenLogprob(msgspec.Struct, frozen=True, gc=False):
    """A token with its natural-log probability; None for a prompt's first token, which nothing predicts."""

    token: str
    logprob: float | None


class Position(msgspec.Struct, frozen=True):
    """One place of a text: the token that stands there, and the likeliest ones, best first."""

    chosen: TokenLogprob
    top: list[TokenLogprob]


class ToolCallDelta(msgspec.Struct, frozen=True):
    """What one function call gained.

    Attributes:
        index: which of the answer's calls.
        id: of the call, in its first delta only.
        name: of the function, in its first delta only.
        arguments: a piece of the arguments' JSON.
    """

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""


class Delta(msgspec.Struct, frozen=True, gc=False):
    """What one answer gained since the last delta.

    Attributes:
        index: which of the ``n`` answers.
        text: may be empty while a stop string or a character is incomplete.
        tokens: how many were generated.
        finish_reason: ``stop``, ``length`` or ``tool_calls`` in an answer's last delta.
        reasoning: what the model thought before it answers, where its reasoning is told apart.
        tool_calls: what the answer's function calls gained.
        reasoning_tokens: how many of the answer's tokens were reasoning; in its last delta.
        positions: one per token, where log-probabilities were asked for.
        cached_tokens: tokens of the prompt found in the prefix cache.
        prompt_positions: the prompt's own log-probabilities, once, where asked for.
        token_ids: the tokens that were generated, for whoever parses them; none once they are parsed.
    """

    index: int
    text: str
    tokens: int
    finish_reason: str | None = None
    reasoning: str = ""
    tool_calls: tuple[ToolCallDelta, ...] = ()
    reasoning_tokens: int = 0
    positions: list[Position] | None = None
    cached_tokens: int = 0
    prompt_positions: list[Position] | None = None
    token_ids: Sequence[int] = ()


Take = Callable[[Delta], bool]


class Tokenizer(Protocol):
    """The base model's tokenizer, as Hugging Face's. Used from one thread at a time.

    Attributes:
        chat_template: in Jinja; None where the base has none.
        special_tokens: finds one in a text that spells it.
    """

    chat_template: Any
    special_tokens: re.Pattern[str]

    def render(self, conversation: list[dict[str, Any]], **options: Any) -> str:
        """The text of a conversation, up to where the assistant begins to speak; ``options`` are the chat template's."""

    def encode(self, text: str) -> list[int]:
        """The token ids of ``text``, with the special tokens that the tokenizer adds to one."""

    def encode_rendered(self, texts: Sequence[str]) -> list[list[int]]:
        """The token ids of rendered conversations: their template wrote the special tokens."""

    def decode(self, token_ids: Sequence[int], **options: Any) -> str:
        """The text of ``token_ids``."""


class Engine(Protocol):
    """One running engine with the base model in it.

    Attributes:
        tokenizer: the base model's; a copy of the server's own.
        max_model_len: tokens of prompt and answer together.
        vocabulary: number of token ids.
        longest_token: characters of the longest token, so that a text much too long is known without tokenizing it.
        start_seconds: of its start, by part.
        default_sampling: what the base model's generation_config.json recommends, such as ``temperature``.
    """

    tokenizer: Tokenizer
    max_model_len: int
    vocabulary: int
    longest_token: int
    start_seconds: dict[str, float]
    default_sampling: dict[str, float]

    def generate(
        self,
        request_id: str,
        prompt: list[int],
        sampling: Sampling,
        adapter: EngineAdapter | None,
        take: Take | None = None,
    ) -> AsyncGenerator[list[Delta], None]:
        """Generate answers to a request whose id no other has; closing or cancelling the iterator aborts the work.

        While the iterator's reader waits for more, an engine may offer deltas to ``take`` as they come, all but an answer's last:
        what ``take`` takes (True) is not yielded, and wakes nobody. An error that it raises is the iterator's.

        Raises:
            RequestRefused: the parameters do not fit the model.
            EngineDead: the engine died before or meanwhile.
        """

    async def score(self, token_ids: list[int], adapter: EngineAdapter | None) -> list[float]:
        """Natural log of p(token[i+1] | token[:i+1]) for each i, one less than there are tokens."""

    async def load(self, adapter: EngineAdapter) -> None:
        """Bring a version into memory; requests may use it afterwards.

        Raises:
            EngineError: the engine cannot load it; the message says why.
        """

    async def unload(self, adapter: EngineAdapter) -> None:
        """Free a version that no request uses any more."""

    def failure(self) -> str | None:
        """Why the engine is dead; None while it lives."""

    async def beat(self) -> None:
        """Have the engine say between two of its steps that it turns; an engine that hangs never does."""

    def metrics(self) -> bytes:
        """The engine's own metrics as Prometheus text."""

    async def close(self) -> None:
        """End the engine and its processes."""
