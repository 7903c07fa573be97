"""A Responses request as the chat request that it means, and chat's errors in its terms."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from services.server.chat.schema import (
    AllowedTools,
    ChatRequest,
    FunctionDefinition,
    FunctionName,
    JsonSchema,
    Message,
    NamedTool,
    ResponseFormat,
    Tool,
    ToolChoice,
)
from services.server.decode import convert
from services.server.errors import BadRequest, ServerError
from services.server.responses.items import Item, messages_of
from services.server.responses.schema import (
    LOGPROBS,
    AllowedToolsChoice,
    FunctionChoice,
    FunctionTool,
    JsonObjectFormat,
    JsonSchemaFormat,
    ResponsesRequest,
)

# What chat calls a field, and what it is called here.
_TERMS = (
    (
        re.compile(r"^messages\b.*"),
        "input",
    ),  # of earlier turns and instructions, too, which the numbers of messages count
    (re.compile(r"^max_completion_tokens$"), "max_output_tokens"),
    (re.compile(r"^response_format(\.json_schema)?"), "text.format"),
    (re.compile(r"^(tools\[\d+\])\.function"), r"\1"),
    (re.compile(r"^tool_choice\.(function|allowed_tools)"), "tool_choice"),
)


def chat_request_of(asked: ResponsesRequest, items: list[Item], earlier: list[Item]) -> ChatRequest:
    """The same request in chat's terms.

    Args:
        asked: decoded.
        items: of its ``input``.
        earlier: of the conversation that it goes on from, whose ``instructions`` count no more.

    Raises:
        BadRequest: an item, a tool or a choice that is not supported; ``param`` names it.
    """
    messages = messages_of(items, earlier)
    if asked.instructions is not None:
        messages.insert(0, Message(role="system", content=asked.instructions))
    with_logprobs = LOGPROBS in (asked.include or ())
    return ChatRequest(
        model=asked.model,
        messages=messages,
        max_completion_tokens=asked.max_output_tokens,
        temperature=asked.temperature,
        top_p=asked.top_p,
        logprobs=with_logprobs,
        top_logprobs=asked.top_logprobs if with_logprobs else None,
        tools=[_tool(tool, f"tools[{index}]") for index, tool in enumerate(asked.tools or ())],
        tool_choice=_choice(asked.tool_choice) if isinstance(asked.tool_choice, dict) else asked.tool_choice,
        parallel_tool_calls=asked.parallel_tool_calls,
        response_format=_response_format(asked),
        reasoning_effort=asked.reasoning.effort if asked.reasoning is not None else None,
        safety_identifier=asked.safety_identifier,
        user=asked.user,
    )


def in_responses_terms(error: ServerError) -> ServerError:
    """The error with the field's name here in place of chat's."""
    if not isinstance(error, BadRequest) or error.param is None:
        return error
    param = error.param
    for chats, ours in _TERMS:
        param = chats.sub(ours, param)
    return BadRequest(error.message.replace(f"'{error.param}'", f"'{param}'"), param=param, code=error.code)


@contextmanager
def responses_terms() -> Iterator[None]:
    """Errors from within, in terms of this API."""
    try:
        yield
    except BadRequest as error:
        raise in_responses_terms(error) from error


def _tool(tool: dict[str, Any], where: str) -> Tool:
    if tool.get("type", "function") != "function":
        raise BadRequest(
            f"'{where}.type': only 'function' is supported by this server; there are no built-in tools.",
            param=f"{where}.type",
            code="unsupported_value",
        )
    function = convert(tool, FunctionTool, where)
    return Tool(
        type="function",
        function=FunctionDefinition(
            name=function.name,
            description=function.description,
            parameters=function.parameters,
            strict=function.strict,
        ),
    )


def _choice(choice: dict[str, Any]) -> ToolChoice:
    kind = choice.get("type")
    if kind == "function":
        return ToolChoice(type="function", function=FunctionName(convert(choice, FunctionChoice, "tool_choice").name))
    if kind == "allowed_tools":
        allowed = convert(choice, AllowedToolsChoice, "tool_choice")
        tools = [NamedTool(type="function", function=FunctionName(tool.name)) for tool in allowed.tools]
        return ToolChoice(type="allowed_tools", allowed_tools=AllowedTools(mode=allowed.mode, tools=tools))
    raise BadRequest(
        "Invalid 'tool_choice': want 'none', 'auto', 'required', a function or allowed_tools.",
        param="tool_choice",
        code="invalid_value",
    )


def _response_format(asked: ResponsesRequest) -> ResponseFormat | None:
    match asked.text.format if asked.text is not None else None:
        case JsonSchemaFormat(name=name, description=description, schema=schema, strict=strict):
            return ResponseFormat(
                type="json_schema",
                json_schema=JsonSchema(name=name, description=description, schema=schema, strict=strict),
            )
        case JsonObjectFormat():
            return ResponseFormat(type="json_object")
        case _:
            return None
