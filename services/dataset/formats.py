"""The four formats that rows come in, each turned into the same messages.

    {"instruction": ..., "output": ..., "input"?: ..., "system"?: ...}      Alpaca
    {"messages": [{"role": ..., "content": ...}, ...]}                      OpenAI chat
    {"conversations": [{"from": ..., "value": ...}, ...]}                   ShareGPT
    {"prompt": ..., "completion": ...}                                      texts, or lists of messages

Each may have a ``system`` text beside, and a ``check`` that tells a right answer when the row is held out. Other keys are the operator's own notes (ids, tags) and are passed over, unless
they change what the row means: those are refused (docs/decisions/0031).
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import msgspec

from services.dataset.checks import Check
from services.dataset.rows import Format, Message, Role

_ROLES: dict[str, Role] = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
_SHAREGPT: dict[str, Role] = {**_ROLES, "human": "user", "gpt": "assistant"}
_TOOLS = "tool calls cannot be trained yet"
_MEDIA = "only text can be trained"
_THOUGHTS = "thoughts beside an answer cannot be trained yet"
_UNREADABLE = {
    **dict.fromkeys(("tools", "functions", "tool_calls", "function_call", "tool_call_id"), _TOOLS),
    **dict.fromkeys(("image", "images", "audio", "audios", "video", "videos"), _MEDIA),
    **dict.fromkeys(("reasoning", "reasoning_content", "thinking"), _THOUGHTS),
    "history": "earlier turns in a key of their own are not read",
}


class Unfit(Exception):
    """A row that cannot be used: the field, the reason, the remedy."""

    def __init__(self, field: str, reason: str, remedy: str) -> None:
        """Carry the parts of a ``Fault``."""
        super().__init__(reason)
        self.field, self.reason, self.remedy = field, reason, remedy


def detect(row: dict[str, Any], *, in_file: Format | None) -> Format:
    """The format of a row, by its keys.

    Args:
        row: one line's object.
        in_file: the format of the file's rows before it; None for the first.

    Raises:
        Unfit: it has the keys of none, of two, or of another than the file's.
    """
    found: list[Format] = []
    if "messages" in row:
        found.append("messages")
    if "conversations" in row:
        found.append("conversations")
    if "instruction" in row or "output" in row:
        found.append("instruction")
    if "prompt" in row or "completion" in row:
        found.append("prompt")
    if len(found) == 1:
        if in_file not in (None, found[0]):
            raise Unfit("", f"is in another format ({found[0]}) than the file ({in_file})", "Keep one format per file")
        return found[0]
    formats = "messages; conversations; instruction and output; or prompt and completion"
    if found:
        raise Unfit("", f"has the keys of two formats ({', '.join(found)})", f"Use the keys of one: {formats}")
    raise Unfit("", "has the keys of no known format", f"Use one of: {formats}")


def parse(row: dict[str, Any], kind: Format) -> tuple[Message, ...]:
    """Turn a row of a known format into messages.

    Raises:
        Unfit: with the field and what is wrong with it.
    """
    _refuse_unreadable(row)
    messages = _PARSERS[kind](row)
    if row.get("system") not in (None, ""):
        messages.insert(0, Message("system", _text(row, "system")))
    return _order(messages)


def parse_check(row: dict[str, Any]) -> Check | None:
    """The row's own check of an answer; None where it has none.

    Raises:
        Unfit: it is there and is no check.
    """
    given = row.get("check")
    if given is None:
        return None
    try:
        return msgspec.convert(given, Check)
    except (msgspec.ValidationError, RecursionError):
        remedy = 'Write one of {"exact": text}, {"contains": text}, {"regex": pattern}, {"json_schema": schema}, or rename the key'
        raise Unfit("check", "is no check of an answer", remedy) from None


def _refuse_unreadable(owner: dict[str, Any], *, prefix: str = "") -> None:
    """Refuse what would be lost without a word; an empty value, as clients write for what is not there, loses nothing."""
    for key in sorted(_UNREADABLE.keys() & owner.keys()):
        if owner[key] not in (None, "", [], {}):
            raise Unfit(
                f"{prefix}{key}", _UNREADABLE[key], f"Remove the row, or the key {key} if the rest stands alone"
            )


def _instruction(row: dict[str, Any]) -> list[Message]:
    question = _text(row, "instruction")
    if row.get("input") not in (None, ""):
        question = f"{question}\n\n{_text(row, 'input')}"
    return [Message("user", question), Message("assistant", _text(row, "output"))]


def _messages(row: dict[str, Any]) -> list[Message]:
    return _turns(row, "messages", role_key="role", text_key="content", roles=_ROLES)


def _conversations(row: dict[str, Any]) -> list[Message]:
    return _turns(row, "conversations", role_key="from", text_key="value", roles=_SHAREGPT)


def _prompt(row: dict[str, Any]) -> list[Message]:
    if isinstance(row.get("prompt"), list) and isinstance(row.get("completion"), list):
        return [
            *_turns(row, "prompt", role_key="role", text_key="content", roles=_ROLES, learn=False),
            *_turns(row, "completion", role_key="role", text_key="content", roles=_ROLES),
        ]
    return [Message("user", _text(row, "prompt")), Message("assistant", _text(row, "completion"))]


_PARSERS: dict[Format, Callable[[dict[str, Any]], list[Message]]] = {
    "instruction": _instruction,
    "messages": _messages,
    "conversations": _conversations,
    "prompt": _prompt,
}


def _turns(
    row: dict[str, Any], key: str, *, role_key: str, text_key: str, roles: dict[str, Role], learn: bool = True
) -> list[Message]:
    turns = row[key]
    if not isinstance(turns, list) or not turns:
        raise Unfit(key, "is not a list of turns", "Give at least one question and one answer")
    messages = []
    for index, turn in enumerate(turns):
        field = f"{key}[{index}]"
        if not isinstance(turn, dict):
            raise Unfit(field, "is not an object", f'Write {{"{role_key}": ..., "{text_key}": ...}}')
        _refuse_unreadable(turn, prefix=f"{field}.")
        role = turn.get(role_key)
        if not isinstance(role, str) or role not in roles:
            raise Unfit(f"{field}.{role_key}", "is not a known role", f"Use one of: {', '.join(roles)}")
        weight = turn.get("weight", 1)
        if weight not in (0, 1) or isinstance(weight, bool):
            raise Unfit(f"{field}.weight", "is neither 0 nor 1", "Use 0 to leave the turn out of the loss")
        learnt = roles[role] != "assistant" or (learn and weight == 1)
        messages.append(Message(roles[role], _content(turn, field, text_key), learnt))
    return messages


def _content(turn: dict[str, Any], field: str, key: str) -> str:
    value = turn.get(key)
    if not isinstance(value, list):
        return _text(turn, key, prefix=f"{field}.")
    parts = []
    for index, part in enumerate(value):
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise Unfit(
                f"{field}.{key}[{index}]", "is not a text part", 'Only {"type": "text", "text": ...} is trained'
            )
        parts.append(part["text"])
    if not "".join(parts).strip():
        raise Unfit(f"{field}.{key}", "is empty", "Fill it or remove the row")
    return "".join(parts)


def _text(row: dict[str, Any], key: str, *, prefix: str = "") -> str:
    value = row.get(key)
    if value is None:
        raise Unfit(f"{prefix}{key}", "is missing", "Add it")
    if not isinstance(value, str):
        raise Unfit(f"{prefix}{key}", "is not text", "Write it as a JSON string")
    if not value.strip():
        raise Unfit(f"{prefix}{key}", "is empty", "Fill it or remove the row")
    return value


def _order(messages: list[Message]) -> tuple[Message, ...]:
    """Check the turns: at most one system message, first; then user and assistant in turn; the last is the assistant's."""
    roles = [message.role for message in messages]
    if "assistant" not in roles:
        raise Unfit("", "has no assistant turn", "Add the answer that is to be learnt")
    if "system" in roles[1:]:
        raise Unfit(
            "",
            "has a system message that is not first",
            "Keep one system message, at the beginning or as the key system",
        )
    turns = roles[1:] if roles[0] == "system" else roles
    if turns[0] != "user":
        raise Unfit("", "does not begin with a user turn", "Begin with the question")
    if any(before == after for before, after in pairwise(turns)):
        raise Unfit("", "has two turns of the same role in a row", "Let user and assistant take turns")
    if turns[-1] != "assistant":
        raise Unfit("", "does not end with an assistant turn", "Remove what comes after the last answer")
    if not any(message.learn for message in messages if message.role == "assistant"):
        remedy = 'Remove the row or give an answer weight 1: data.loss = "all" learns questions beside answers, not in their place'
        raise Unfit("", "has no assistant turn with weight 1", remedy)
    return tuple(messages)
