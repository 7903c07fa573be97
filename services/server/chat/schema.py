"""Requests as msgspec structs: what OpenAI's clients send, with every field either used, inert or refused by name."""

from typing import Any, Literal

import msgspec

from services.server.decode import decode, refuse_unsupported
from services.server.errors import BadRequest

Flag = bool | None
Number = float | None
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


class StreamOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``stream_options``."""

    include_usage: Flag = None
    include_obfuscation: Flag = None


class ContentPart(msgspec.Struct, frozen=True):
    """A part of a message's content; ``render`` refuses all but text."""

    type: str
    text: str | None = None


class CalledFunction(msgspec.Struct, frozen=True):
    """What an earlier answer called; ``arguments`` is the JSON that the model wrote."""

    name: str
    arguments: str


class ToolCall(msgspec.Struct, frozen=True):
    """A call in an earlier answer; ``conversation`` refuses all types but ``function``."""

    id: str
    type: str = "function"
    function: CalledFunction | None = None


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One message of a conversation. Fields that clients echo from an answer are accepted while they are empty."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[ContentPart] | None = None
    name: str | None = None
    refusal: str | None = None
    audio: Any = None
    tool_calls: list[ToolCall] | None = None
    function_call: Any = None
    tool_call_id: str | None = None
    annotations: Any = None
    reasoning_content: str | None = None  # as our own answers give it; for templates that want it back


class FunctionDefinition(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A function that may be called."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: Flag = None  # calls always fit the schema here


class Tool(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of ``tools``; ``shape`` refuses all types but ``function``."""

    type: str
    function: FunctionDefinition | None = None
    custom: Any = None


class FunctionName(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A function by its name."""

    name: str


class NamedTool(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A tool by its name."""

    type: str
    function: FunctionName | None = None
    custom: Any = None


class AllowedTools(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A choice among some of ``tools``."""

    mode: Literal["auto", "required"]
    tools: list[NamedTool]


class ToolChoice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``tool_choice`` where it is an object."""

    type: str
    function: FunctionName | None = None
    allowed_tools: AllowedTools | None = None
    custom: Any = None


class JsonSchema(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``response_format.json_schema``."""

    name: str
    description: str | None = None
    schema: dict[str, Any] | None = None
    strict: Flag = None  # answers always fit the schema here


class ResponseFormat(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``response_format``."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class SamplingFields(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What both routes take: how to sample, and how to answer."""

    model: str
    stream: Flag = None
    stream_options: StreamOptions | None = None
    n: int | None = None
    seed: int | None = None
    temperature: Number = None
    top_p: Number = None
    presence_penalty: Number = None
    frequency_penalty: Number = None
    stop: str | list[str] | None = None
    max_tokens: int | None = None
    logit_bias: dict[str, float] | None = None
    # Not OpenAI's; vLLM's users send them in extra_body.
    top_k: int | None = None
    min_p: Number = None
    repetition_penalty: Number = None
    ignore_eos: Flag = None
    # Who asks: keeps them on one version while a canary runs.
    user: str | None = None


class ChatRequest(SamplingFields, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The body of ``POST /v1/chat/completions``."""

    messages: list[Message]
    max_completion_tokens: int | None = None
    logprobs: Flag = None
    top_logprobs: int | None = None
    safety_identifier: str | None = None  # as ``user``, and before it
    tools: list[Tool] | None = None
    tool_choice: Literal["none", "auto", "required"] | ToolChoice | None = None
    parallel_tool_calls: Flag = None
    response_format: ResponseFormat | None = None
    reasoning_effort: Effort | None = None
    # Without effect here.
    metadata: dict[str, str] | None = None
    store: Flag = None
    service_tier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: Any = None
    prompt_cache_retention: str | None = None
    verbosity: str | None = None
    # Accepted only with the value that changes nothing; see ``UNSUPPORTED_CHAT``.
    functions: Any = None
    function_call: Any = None
    modalities: Any = None
    audio: Any = None
    prediction: Any = None
    web_search_options: Any = None
    moderation: Any = None


class CompletionRequest(SamplingFields, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The body of ``POST /v1/completions``."""

    prompt: str | list[Any]
    logprobs: int | None = None
    echo: Flag = None
    # Accepted only with the value that changes nothing; see ``UNSUPPORTED_COMPLETION``.
    best_of: int | None = None
    suffix: str | None = None


# field -> the values that mean "not used"
UNSUPPORTED_CHAT: dict[str, tuple[Any, ...]] = {
    "functions": (None, []),
    "function_call": (None, "none", "auto"),
    "modalities": (None, ["text"]),
    "audio": (None,),
    "prediction": (None,),
    "web_search_options": (None,),
    "moderation": (None,),
}
UNSUPPORTED_COMPLETION: dict[str, tuple[Any, ...]] = {"best_of": (None, 1), "suffix": (None, "")}

_chat = msgspec.json.Decoder(ChatRequest)
_completion = msgspec.json.Decoder(CompletionRequest)


def decode_chat(body: bytes) -> ChatRequest:
    """Decode and check the shape of a chat request.

    Raises:
        BadRequest: not JSON, an unknown or unsupported field, or a value of the wrong type.
    """
    request = decode(body, _chat)
    refuse_unsupported(request, UNSUPPORTED_CHAT)
    return request


def decode_completion(body: bytes) -> CompletionRequest:
    """Decode and check the shape of a completions request.

    Raises:
        BadRequest: not JSON, an unknown or unsupported field, or a value of the wrong type.
    """
    request = decode(body, _completion)
    refuse_unsupported(request, UNSUPPORTED_COMPLETION)
    return request


def prompts_of(prompt: str | list[Any], *, most: int, param: str = "prompt") -> list[str] | list[list[int]]:
    """Tell the four forms of ``prompt`` apart: text, texts, token ids, lists of token ids; as a list of prompts.

    Args:
        prompt: as it was decoded.
        most: how many there may be.
        param: the field it came in.

    Raises:
        BadRequest: none of the four, none at all, or more than ``most``.
    """
    if isinstance(prompt, str):
        return [prompt]
    if _is_tokens(prompt):
        return [prompt]
    if not 1 <= len(prompt) <= most:
        raise BadRequest(
            f"Invalid '{param}': want 1 to {most} of them, got {len(prompt)}.", param=param, code="invalid_value"
        )
    if all(isinstance(item, str) for item in prompt) or all(_is_tokens(item) for item in prompt):
        return prompt
    raise BadRequest(
        f"Invalid '{param}': want a string, a list of strings, a list of token ids or a list of such lists.",
        param=param,
        code="invalid_type",
    )


def _is_tokens(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(item) is int for item in value)
