"""The Responses API's object and events, which are built as bytes: their shapes, for the document and for tests."""

from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from services.server.errors import ErrorBody
from services.server.openapi.answers import TokenLogprob
from services.server.responses.schema import JsonObjectFormat, JsonSchemaFormat, TextFormat

ItemStatus = Literal["in_progress", "completed", "incomplete"]


class OutputText(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="output_text"):
    """What is said."""

    text: str
    annotations: list[Any]
    logprobs: list[TokenLogprob]


class ReasoningText(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="reasoning_text"):
    """What is thought."""

    text: str


class OutputMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="message"):
    """An answer's words."""

    id: str
    status: ItemStatus
    role: Literal["assistant"]
    content: list[OutputText]


class OutputReasoning(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="reasoning"):
    """An answer's thoughts."""

    id: str
    status: ItemStatus
    summary: list[Any]
    content: list[ReasoningText]
    encrypted_content: None


class OutputFunctionCall(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="function_call"
):
    """A function that is to be called; ``arguments`` is JSON."""

    id: str
    status: ItemStatus
    call_id: str
    name: str
    arguments: str


OutputItem = OutputMessage | OutputReasoning | OutputFunctionCall


class InputText(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="input_text"):
    """What was said to the model."""

    text: str


class ListedMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="message"):
    """What somebody said; the assistant's parts are ``output_text``, the others' ``input_text``."""

    id: str
    status: ItemStatus
    role: Literal["user", "assistant", "system", "developer"]
    content: list[InputText | OutputText]


class ListedFunctionCallOutput(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="function_call_output"
):
    """What a called function gave."""

    id: str
    status: ItemStatus
    call_id: str
    output: str | list[InputText]


ListedItem = ListedMessage | OutputReasoning | OutputFunctionCall | ListedFunctionCallOutput


class InputItems(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A page of the items that a response answered."""

    object: Literal["list"]
    data: list[ListedItem]
    has_more: bool
    first_id: str | None
    last_id: str | None


class InputTokensDetails(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``input_tokens_details``."""

    cached_tokens: int
    cache_write_tokens: int


class OutputTokensDetails(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``output_tokens_details``."""

    reasoning_tokens: int


class ResponseUsage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a response consumed."""

    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int


class ResponseError(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why a response failed."""

    code: Literal["server_error", "rate_limit_exceeded", "invalid_prompt"]
    message: str


class IncompleteDetails(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why a response is incomplete."""

    reason: Literal["max_output_tokens"]


class ResponseReasoning(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``reasoning``, as it was asked for."""

    effort: str | None
    summary: None


class ResponseText(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``text``, as it was asked for."""

    format: TextFormat | JsonObjectFormat | JsonSchemaFormat
    verbosity: Literal["low", "medium", "high"]


class Response(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An answer; what was asked for comes back in it, ``model`` names the version that gave it, ``store`` says whether it is kept."""

    id: str
    object: Literal["response"]
    created_at: int
    completed_at: int | None
    model: str
    status: Literal["in_progress", "completed", "incomplete", "failed"]
    output: list[OutputItem]
    usage: ResponseUsage | None
    error: ResponseError | None
    incomplete_details: IncompleteDetails | None
    background: Literal[False]
    store: bool
    previous_response_id: str | None
    service_tier: Literal["default"]
    truncation: Literal["disabled"]
    instructions: str | None
    max_output_tokens: int | None
    max_tool_calls: int | None
    metadata: dict[str, str]
    parallel_tool_calls: bool
    prompt_cache_key: str | None
    reasoning: ResponseReasoning
    safety_identifier: str | None
    temperature: float
    text: ResponseText
    tool_choice: str | dict[str, Any]
    tools: list[dict[str, Any]]
    top_logprobs: int
    top_p: float
    user: str | None


class ResponseEvent(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An event of a streamed response; ``type`` says which fields it has."""

    type: Literal[
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.reasoning_text.delta",
        "response.reasoning_text.done",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
        "response.incomplete",
        "response.failed",
        "error",
    ]
    sequence_number: int
    response: Response | UnsetType = UNSET
    output_index: int | UnsetType = UNSET
    content_index: int | UnsetType = UNSET
    item_id: str | UnsetType = UNSET
    item: OutputItem | UnsetType = UNSET
    part: OutputText | ReasoningText | UnsetType = UNSET
    delta: str | UnsetType = UNSET
    text: str | UnsetType = UNSET
    name: str | UnsetType = UNSET
    arguments: str | UnsetType = UNSET
    logprobs: list[TokenLogprob] | UnsetType = UNSET
    code: str | UnsetType | None = UNSET
    message: str | UnsetType = UNSET
    param: str | UnsetType | None = UNSET
    error: ErrorBody | UnsetType = UNSET
