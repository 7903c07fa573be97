"""Function calls for a chat template that knows none: told in a system message, in the words of the Hermes format.

The format is the one that vLLM's ``hermes`` parser reads and that Qwen's and SmolLM2's templates write:
https://github.com/NousResearch/Hermes-Function-Calling.
"""

from typing import Any

import msgspec

_BEFORE = (
    "You may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>"
)
_AFTER = (
    "\n</tools>\n\nFor each function call, return a json object with function name and arguments within "
    "<tool_call></tool_call> XML tags:\n<tool_call>\n"
    '{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>'
)


def without_tools(conversation: list[dict[str, Any]], tools: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The conversation with tools, calls and results written as text."""
    written = [_written(message) for message in conversation]
    if not tools:
        return written
    told = _BEFORE + "".join("\n" + _json(tool) for tool in tools) + _AFTER
    if written and written[0]["role"] == "system":
        return [{**written[0], "content": f"{written[0]['content']}\n\n{told}"}, *written[1:]]
    return [{"role": "system", "content": told}, *written]


def _written(message: dict[str, Any]) -> dict[str, Any]:
    if message["role"] == "tool":
        return {"role": "user", "content": f"<tool_response>\n{message['content']}\n</tool_response>"}
    calls = message.get("tool_calls")
    if not calls:
        return message
    texts = [message["content"]] if message["content"] else []
    texts += [f"<tool_call>\n{_json(call['function'])}\n</tool_call>" for call in calls]
    return {"role": message["role"], "content": "\n".join(texts)}


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
