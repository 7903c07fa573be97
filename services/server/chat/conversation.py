"""Messages as chat templates know them: roles, texts, calls and their results."""

from typing import Any

import msgspec

from services.server.chat.schema import Message
from services.server.errors import BadRequest


def conversation_of(messages: list[Message]) -> list[dict[str, Any]]:
    """The messages as a template takes them.

    Raises:
        BadRequest: a message that no template can take, or a tool's result that no call asked for; ``param`` names it.
    """
    asked: set[str] = set()
    plain = []
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        _refuse(message, where)
        if message.role == "tool":
            if message.tool_call_id is None:
                raise _missing(f"{where}.tool_call_id")
            if message.tool_call_id not in asked:
                raise BadRequest(
                    f"Invalid '{where}': a message with role 'tool' answers a preceding message with 'tool_calls' of the same id.",
                    param=f"{where}.tool_call_id",
                    code="invalid_value",
                )
        asked.update(call.id for call in message.tool_calls or ())
        plain.append(_plain(message, where))
    return plain


def chars_of(conversation: list[dict[str, Any]]) -> int:
    """How long the texts are together, to know what is much too long without tokenizing it."""
    return sum(
        len(message["content"]) + sum(len(str(call["function"])) for call in message.get("tool_calls", ()))
        for message in conversation
    )


def _refuse(message: Message, where: str) -> None:
    if message.role == "function":
        raise BadRequest(
            f"'{where}.role': 'function' is not supported by this server; use 'tool'.",
            param=f"{where}.role",
            code="unsupported_value",
        )
    for field in ("audio", "function_call"):
        if getattr(message, field):
            raise BadRequest(
                f"'{where}.{field}' is not supported by this server.",
                param=f"{where}.{field}",
                code="unsupported_parameter",
            )
    for field, role in (("tool_calls", "assistant"), ("tool_call_id", "tool")):
        if getattr(message, field) and message.role != role:
            raise BadRequest(
                f"'{where}.{field}' is for messages with role '{role}'.", param=f"{where}.{field}", code="invalid_value"
            )


def _plain(message: Message, where: str) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "role": "system" if message.role == "developer" else message.role,
        "content": _text(message, where),
    }
    if message.tool_calls:
        plain["tool_calls"] = [_call(call, f"{where}.tool_calls[{at}]") for at, call in enumerate(message.tool_calls)]
    if message.tool_call_id is not None:
        plain["tool_call_id"] = message.tool_call_id
    if message.reasoning_content:
        plain["reasoning_content"] = message.reasoning_content
    return plain


def _call(call: Any, where: str) -> dict[str, Any]:
    if call.type != "function" or call.function is None:
        raise BadRequest(
            f"'{where}.type': only 'function' is supported by this server.",
            param=f"{where}.type",
            code="unsupported_value",
        )
    try:
        arguments = msgspec.json.decode(call.function.arguments)  # templates write the object themselves
    except (msgspec.DecodeError, RecursionError):  # no JSON, or nested more deeply than it is read: as it was written
        arguments = call.function.arguments
    return {"id": call.id, "type": "function", "function": {"name": call.function.name, "arguments": arguments}}


def _text(message: Message, where: str) -> str:
    if message.content is None:
        if message.tool_calls:
            return ""
        raise _missing(f"{where}.content")
    if isinstance(message.content, str):
        return message.content
    for number, part in enumerate(message.content):
        if part.type != "text" or part.text is None:
            raise BadRequest(
                f"'{where}.content[{number}]': parts of type '{part.type[:40]}' are not supported; send text.",
                param=f"{where}.content[{number}].type",
                code="unsupported_value",
            )
    # as the trainer joins them, and templates that know parts
    return "".join(part.text or "" for part in message.content)


def _missing(param: str) -> BadRequest:
    return BadRequest(f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter")
