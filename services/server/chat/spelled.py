"""Special tokens spelled in a conversation: the template's text does not tell them from its own, so that whoever writes one speaks for others."""

import re
from collections.abc import Iterator
from typing import Any

from services.server.errors import BadRequest


def refuse_spelled(special: re.Pattern[str], conversation: list[dict[str, Any]], tools: list[dict[str, Any]]) -> None:
    """Look at all that a template may write.

    Args:
        special: see ``Tokenizer.special_tokens``.
        conversation: as the template takes it: parts joined, the JSON of calls decoded.
        tools: as the template takes them.

    Raises:
        BadRequest: a text spells a special token; ``param`` names its place.
    """
    for index, message in enumerate(conversation):
        for field, value in message.items():
            for text in _texts(value):
                if found := special.search(text):
                    raise _spelled(found, f"messages[{index}].{field}")
    for text in _texts(tools):
        if found := special.search(text):
            raise _spelled(found, "tools")


def _spelled(found: re.Match[str], where: str) -> BadRequest:
    return BadRequest(
        f"Invalid '{where}': it spells the special token {found[0]}, which the model reads as no text. Write it in another way.",
        param=where,
        code="invalid_value",
    )


def _texts(value: Any) -> Iterator[str]:
    """Every text in a JSON value, keys among them."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict):
            waiting += item
            waiting += item.values()
        elif isinstance(item, list):
            waiting += item
