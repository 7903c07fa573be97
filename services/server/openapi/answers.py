"""Answers of generating routes, which are built as bytes and not from structs: their shapes, for the document and for tests.

A field that an answer may lack is ``UNSET``; one that may be null says so.
"""

from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from services.server.chat.usage import Usage

FinishReason = Literal["stop", "length", "tool_calls"]


class TopLogprob(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A token that was likely in its place."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A token of an answer, and the likeliest ones in its place, best first."""

    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[TopLogprob]


class ChatLogprobs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Log-probabilities of chat completions; ``refusal`` is always null."""

    content: list[TokenLogprob]
    refusal: None


class AssistantFunction(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to call; ``arguments`` is JSON."""

    name: str
    arguments: str


class AssistantCall(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A function call that the model asks for."""

    id: str
    type: Literal["function"]
    function: AssistantFunction


class AssistantMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the model said; ``content`` is null where it only calls, ``refusal`` always."""

    role: Literal["assistant"]
    content: str | None
    refusal: None
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[AssistantCall] | UnsetType = UNSET


class ChatChoice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of ``n`` answers."""

    index: int
    message: AssistantMessage
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason


class ChatCompletion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A conversation's answer; ``model`` names the version that gave it."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChoice]
    usage: Usage


class AssistantFunctionDelta(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a call's ``arguments`` gained; its first delta names the function."""

    arguments: str
    name: str | UnsetType = UNSET


class AssistantCallDelta(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a call gained; its first delta has ``id`` and ``type``."""

    index: int
    function: AssistantFunctionDelta
    id: str | UnsetType = UNSET
    type: Literal["function"] | UnsetType = UNSET


class MessageDelta(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an answer gained."""

    role: Literal["assistant"] | UnsetType = UNSET
    content: str | UnsetType = UNSET
    refusal: UnsetType | None = UNSET
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[AssistantCallDelta] | UnsetType = UNSET


class ChatChunkChoice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of ``n`` answers, in parts."""

    index: int
    delta: MessageDelta
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason | None


class ChatCompletionChunk(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An event of a streamed answer; ``usage`` is there where ``stream_options.include_usage`` asks for it."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChunkChoice]
    usage: Usage | UnsetType | None = UNSET


class TextLogprobs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Log-probabilities of completions as parallel lists; the first token of an echoed prompt has none."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class TextChoice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One continuation of one prompt."""

    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: Literal["stop", "length"]


class Completion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Texts continued; ``model`` names the version that did it."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[TextChoice]
    usage: Usage


class TextChunkChoice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of a continuation."""

    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: Literal["stop", "length"] | None


class CompletionChunk(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An event of streamed continuations; ``usage`` is there where ``stream_options.include_usage`` asks for it."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    system_fingerprint: str
    choices: list[TextChunkChoice]
    usage: Usage | UnsetType | None = UNSET
