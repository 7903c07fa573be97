"""From a body's bytes to msgspec structs, and from what is wrong with them to an error that names the field."""

from collections.abc import Mapping
from itertools import accumulate
from typing import Any, TypeVar

import msgspec

from services.server.errors import BadRequest

T = TypeVar("T")
_BRACKETS_AND_QUOTES = b'[]{}"'
_OTHERS = bytes(byte for byte in range(256) if byte not in _BRACKETS_AND_QUOTES)
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")  # one in, one out, as signed bytes


def refuse_deep(body: bytes, most: int) -> None:
    """Refuse a JSON body before anything is made of it.

    Args:
        body: JSON, or what will be found to be none.
        most: objects and arrays within each other.

    Raises:
        BadRequest: there are more.
    """
    if body.count(b"[") + body.count(b"{") > most and _depth(body) > most:
        raise BadRequest(
            f"The JSON body is nested deeper than {most} objects and arrays (limits.max_json_depth).",
            code="invalid_value",
        )


def _depth(body: bytes) -> int:
    """Counted without a loop in Python: a body may have millions of brackets (4 ns a byte; decoding takes 0.7 to 35)."""
    bare = body.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, _OTHERS)
    outside_texts = b"".join(bare.split(b'"')[::2])
    return max(accumulate(memoryview(outside_texts.translate(_STEPS)).cast("b")), default=0)


def decode(body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """Decode a JSON body.

    Raises:
        BadRequest: not JSON, an unknown field, or a value of the wrong type.
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _described(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"We could not parse the JSON body of your request: {error}") from None


def convert(value: Any, kind: type[T], where: str) -> T:
    """Give a part of a decoded body its own type, where only its content says which one that is.

    Args:
        value: as JSON decodes it.
        kind: the type.
        where: the field it came in, such as ``tools[0]``.

    Raises:
        BadRequest: an unknown field, or a value of the wrong type.
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise _described(error, where) from None


def refuse_unsupported(
    request: Any,
    unsupported: Mapping[str, tuple[Any, ...]],
    remedies: Mapping[str, str] | None = None,
    *,
    within: str = "",
) -> None:
    """Refuse the fields that this server cannot fulfil.

    Args:
        request: a decoded body.
        unsupported: field -> the values that mean "not used".
        remedies: field -> what to do instead, where there is something.
        within: what comes before a field's name, such as ``method.``.

    Raises:
        BadRequest: a field with another value.
    """
    for field, unused in unsupported.items():
        if getattr(request, field) not in unused:
            remedy = f"; {remedies[field]}" if remedies is not None and field in remedies else ""
            raise BadRequest(
                f"'{within}{field}' is not supported by this server{remedy}.",
                param=f"{within}{field}",
                code="unsupported_parameter",
            )


def _described(error: msgspec.ValidationError, within: str = "") -> BadRequest:
    """Turn msgspec's ``... - at `$.messages[0].role``` into a message and OpenAI's ``param``, which begins ``within``."""
    text, _, where = str(error).rpartition(" - at `$")
    if not text:
        text, where = str(error), ""
    param = (within + where.rstrip("`")).lstrip(".").replace("[...]", "") or None
    unknown = "Object contains unknown field `"
    if text.startswith(unknown):
        field = text[len(unknown) :].rstrip("`")
        param = f"{param}.{field}" if param else field
        return BadRequest(f"Unrecognized request argument supplied: {param}", param=param, code="unknown_parameter")
    if "missing required field" in text:
        field = text.rpartition("`")[0].rpartition("`")[2]
        param = f"{param}.{field}" if param else field
        return BadRequest(f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter")
    if text.startswith("Invalid enum value "):  # msgspec repeats the value, which may be a prompt in the wrong place
        text = "none of the supported values, which /openapi.json lists"
    code = "invalid_type" if ", got `" in text else "invalid_value"
    return BadRequest(f"Invalid value for '{param}': {text}." if param else f"{text}.", param=param, code=code)
