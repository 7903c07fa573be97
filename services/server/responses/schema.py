"""The body of ``POST /v1/responses`` as msgspec structs, with every field either used, inert or refused by name."""

from typing import Any, Literal

import msgspec

from services.server.chat.schema import Effort, Flag
from services.server.decode import decode, refuse_unsupported
from services.server.errors import BadRequest

LOGPROBS = "message.output_text.logprobs"
INCLUDABLE = {LOGPROBS, "reasoning.encrypted_content"}  # the second has no effect: reasoning is given as it is


class ResponseStreamOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``stream_options``; without effect here."""

    include_obfuscation: Flag = None


class TextFormat(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="text"):
    """Free text."""


class JsonObjectFormat(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="json_object"):
    """Any JSON object."""


class JsonSchemaFormat(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="json_schema"):
    """JSON that fits a schema."""

    name: str
    schema: dict[str, Any]
    description: str | None = None
    strict: Flag = None


class TextConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``text``; ``verbosity`` is without effect here."""

    format: TextFormat | JsonObjectFormat | JsonSchemaFormat | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class Reasoning(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``reasoning``; all but ``effort`` is without effect here: reasoning is given whole, not as a summary."""

    effort: Effort | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None = None
    context: Literal["auto", "current_turn", "all_turns"] | None = None
    mode: str | None = None


class FunctionTool(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of ``tools``."""

    name: str
    type: Literal["function"]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: Flag = None


class FunctionChoice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``tool_choice`` where one function must be called."""

    name: str
    type: Literal["function"]


class AllowedToolsChoice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``tool_choice`` where it is among some of ``tools``."""

    mode: Literal["auto", "required"]
    tools: list[FunctionChoice]
    type: Literal["allowed_tools"]


class ResponsesRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The body of ``POST /v1/responses``.

    Attributes:
        input: text, or items that ``items.items_of`` tells apart by their ``type``.
        tools: likewise, by ``convert.chat_request_of``.
        tool_choice: likewise, where it is an object.
    """

    model: str
    input: str | list[dict[str, Any]]
    instructions: str | None = None
    stream: Flag = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    include: list[str] | None = None
    top_logprobs: int | None = None
    text: TextConfig | None = None
    reasoning: Reasoning | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: Literal["none", "auto", "required"] | dict[str, Any] | None = None
    parallel_tool_calls: Flag = None
    # Who asks: keeps them on one version while a canary runs.
    safety_identifier: str | None = None
    user: str | None = None
    # Where the operator has switched storing on; the answer says whether it is stored.
    store: Flag = None
    previous_response_id: str | None = None
    # Without effect here; the first two come back in the answer.
    metadata: dict[str, str] | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: Any = None
    prompt_cache_retention: Literal["in_memory", "24h"] | None = None
    max_tool_calls: int | None = None  # of built-in tools, which there are none of
    service_tier: str | None = None
    stream_options: ResponseStreamOptions | None = None
    # Accepted only with the value that changes nothing; see ``UNSUPPORTED``.
    background: Flag = None
    background_options: Any = None
    conversation: Any = None
    prompt: Any = None
    truncation: Literal["auto", "disabled"] | None = None
    context_management: Any = None
    moderation: Any = None
    image: Any = None
    access_programs: Any = None


# field -> the values that mean "not used"
UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "background": (None, False),
    "background_options": (None,),
    "conversation": (None,),
    "prompt": (None,),
    "truncation": (None, "disabled"),
    "context_management": (None, []),
    "moderation": (None,),
    "image": (None,),
    "access_programs": (None,),
}
# field -> what to do instead
REMEDIES = {
    "background": "wait for the answer, or stream it",
    "conversation": "send the whole conversation as 'input'",
    "prompt": "send its text as 'instructions' and 'input'",
    "truncation": "leave it out, and shorten 'input' where it is over the context",
}

_decoder = msgspec.json.Decoder(ResponsesRequest)


def decode_responses(body: bytes) -> ResponsesRequest:
    """Decode a body and check its shape, all but ``input``, ``tools`` and ``tool_choice``.

    Raises:
        BadRequest: not JSON, an unknown or unsupported field, or a value of the wrong type.
    """
    request = decode(body, _decoder)
    refuse_unsupported(request, UNSUPPORTED, REMEDIES)
    if request.stream_options is not None and not request.stream:
        raise BadRequest("'stream_options' needs 'stream': true.", param="stream_options", code="invalid_value")
    for index, value in enumerate(request.include or ()):
        if value not in INCLUDABLE:
            raise BadRequest(
                f"'include[{index}]' is not supported by this server, which knows {' and '.join(sorted(INCLUDABLE))}.",
                param=f"include[{index}]",
                code="unsupported_value",
            )
    if request.top_logprobs and LOGPROBS not in (request.include or ()):
        raise BadRequest(f"'top_logprobs' needs 'include': ['{LOGPROBS}'].", param="top_logprobs", code="invalid_value")
    return request
