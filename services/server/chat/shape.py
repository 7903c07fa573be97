"""``tools``, ``tool_choice`` and ``response_format``, checked and in the engine's terms."""

import re
from typing import Any

import msgspec

from services.server.chat.patterns import counted_items
from services.server.chat.schema import ChatRequest, NamedTool, ResponseFormat, Tool, ToolChoice
from services.server.engine.protocol import Shape
from services.server.errors import BadRequest
from services.server.settings import Limits

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SCHEMA = "response_format.json_schema.schema"


def shape_of(request: ChatRequest, limits: Limits, template_options: dict[str, Any]) -> Shape:
    """The form that a chat answer may take.

    Args:
        request: decoded.
        limits: of the number of tools and the size of schemas.
        template_options: see ``Shape``.

    Raises:
        BadRequest: a tool, a choice or a format that cannot be; ``param`` names it.
    """
    tools = _functions(request.tools or [], limits)
    choice, allowed = _choice(request.tool_choice, set(tools), given=bool(request.tools))
    response_format = _response_format(request.response_format)
    offered = [] if choice == "none" else [tools[name] for name in tools if name in allowed]
    if offered:
        _fit([tool["function"]["parameters"] for tool in offered], "tools", limits)
    if response_format is not None:
        _fit([response_format], _SCHEMA, limits)
    return Shape(
        tools=offered,
        tool_choice=choice,
        parallel=request.parallel_tool_calls is not False,
        response_format=response_format,
        template_options=template_options,
    )


def _functions(tools: list[Tool], limits: Limits) -> dict[str, dict[str, Any]]:
    """Every function by its name, as OpenAI's JSON object."""
    if len(tools) > limits.max_tools:
        raise BadRequest(
            f"Invalid 'tools': at most {limits.max_tools}, got {len(tools)}.", param="tools", code="invalid_value"
        )
    found: dict[str, dict[str, Any]] = {}
    for index, tool in enumerate(tools):
        where = f"tools[{index}]"
        if tool.type != "function":
            raise BadRequest(
                f"'{where}.type': only 'function' is supported by this server.",
                param=f"{where}.type",
                code="unsupported_value",
            )
        if tool.function is None:
            raise BadRequest(
                f"Missing required parameter: '{where}.function'.",
                param=f"{where}.function",
                code="missing_required_parameter",
            )
        name = tool.function.name
        if not _NAME.fullmatch(name):
            raise BadRequest(
                f"Invalid '{where}.function.name': 1 to 64 of A-Z a-z 0-9 _ -.",
                param=f"{where}.function.name",
                code="invalid_value",
            )
        if name in found:
            raise BadRequest(
                f"Invalid '{where}.function.name': two functions are called '{name}'.",
                param=f"{where}.function.name",
                code="invalid_value",
            )
        function = msgspec.to_builtins(tool.function)
        function.setdefault("parameters", {"type": "object", "properties": {}})
        found[name] = {"type": "function", "function": function}
    return found


def _choice(choice: str | ToolChoice | None, names: set[str], *, given: bool) -> tuple[str, set[str]]:
    """``none``, ``auto``, ``required`` or a function's name; and the functions that may be called."""
    if choice is None or choice == "none":
        return "none" if choice == "none" or not given else "auto", names
    if not given:
        raise BadRequest("'tool_choice' is only allowed when 'tools' are specified.", param="tool_choice")
    if isinstance(choice, str):
        return choice, names
    if choice.type == "function" and choice.function is not None:
        return choice.function.name, _known([choice.function.name], names, "tool_choice.function.name")
    if choice.type == "allowed_tools" and choice.allowed_tools is not None:
        where = "tool_choice.allowed_tools.tools"
        return choice.allowed_tools.mode, _known(
            [_allowed(tool, where) for tool in choice.allowed_tools.tools], names, where
        )
    raise BadRequest(
        "Invalid 'tool_choice': want 'none', 'auto', 'required', a function or allowed_tools.",
        param="tool_choice",
        code="invalid_value",
    )


def _allowed(tool: NamedTool, where: str) -> str:
    if tool.type != "function" or tool.function is None:
        raise BadRequest(
            f"'{where}': only functions are supported by this server.", param=where, code="unsupported_value"
        )
    return tool.function.name


def _known(asked: list[str], names: set[str], where: str) -> set[str]:
    if not asked or not names.issuperset(asked):
        raise BadRequest(f"Invalid '{where}': no such function in 'tools'.", param=where, code="invalid_value")
    return set(asked)


def _response_format(asked: ResponseFormat | None) -> dict[str, Any] | None:
    if asked is None or asked.type == "text":
        return None
    if asked.type == "json_object":
        return {"type": "json_object"}
    if asked.json_schema is None or asked.json_schema.schema is None:
        param = "response_format.json_schema" if asked.json_schema is None else _SCHEMA
        raise BadRequest(f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter")
    if not _NAME.fullmatch(asked.json_schema.name):
        raise BadRequest(
            "Invalid 'response_format.json_schema.name': 1 to 64 of A-Z a-z 0-9 _ -.",
            param="response_format.json_schema.name",
            code="invalid_value",
        )
    return {
        "type": "json_schema",
        "json_schema": {"name": asked.json_schema.name, "schema": asked.json_schema.schema, "strict": True},
    }


def _fit(schemas: list[Any], where: str, limits: Limits) -> None:
    """Refuse schemas that would keep the grammar's compiler busy; their size, depth and counts bound its work."""
    if len(msgspec.json.encode(schemas)) > limits.max_schema_bytes:
        raise BadRequest(
            f"Invalid '{where}': over {limits.max_schema_bytes} bytes of JSON schema.",
            param=where,
            code="invalid_value",
        )
    if _deeper(schemas, limits.max_schema_depth + 2):  # the list around them, and the format's own object
        raise BadRequest(
            f"Invalid '{where}': nested deeper than {limits.max_schema_depth}.", param=where, code="invalid_value"
        )
    if (items := counted_items(schemas)) > limits.max_schema_repeats:
        raise BadRequest(
            f"Invalid '{where}': the counts in its patterns repeat {items} items; at most {limits.max_schema_repeats}.",
            param=where,
            code="invalid_value",
        )


def _deeper(value: Any, most: int) -> bool:
    """Whether objects and arrays lie within each other more than ``most`` deep."""
    level = [value]
    for _ in range(most):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return any(isinstance(left, dict | list) for left in level)
