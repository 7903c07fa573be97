"""From bytes to JSON objects, line by line, within bounded memory."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from services.dataset.faults import Fault

_BOM = b"\xef\xbb\xbf"
_HALF = re.compile("[\ud800-\udfff]")
_CUT_OFF = "The last line is incomplete: write the file again"


def read_objects(path: Path, name: str, *, max_line_bytes: int) -> Iterator[tuple[int, dict[str, Any]] | Fault]:
    """Yield ``(line, object)`` for each good line and a ``Fault`` for each bad one; blank lines are passed over."""
    with path.open("rb") as stream:
        for number, line in enumerate(_bounded_lines(stream, max_line_bytes), start=1):
            if line is None:
                yield Fault(
                    file=name,
                    line=number,
                    reason=f"the line is over {max_line_bytes} bytes",
                    remedy="Write one JSON object per line, or raise data.max_line_bytes",
                )
            elif line.strip():
                yield _decode(line, name, number)


def _bounded_lines(stream: BinaryIO, limit: int) -> Iterator[bytes | None]:
    """Lines without their end; None for one over ``limit`` bytes, which is skipped without being held."""
    while piece := stream.readline(limit + 1):
        if len(piece) <= limit or piece.endswith(b"\n"):
            yield piece
            continue
        while piece and not piece.endswith(b"\n"):
            piece = stream.readline(limit + 1)
        yield None


def _decode(line: bytes, name: str, number: int) -> tuple[int, dict[str, Any]] | Fault:
    cut_off = not line.endswith(b"\n")
    try:
        value = _parse(_text(line, cut_off=cut_off), cut_off=cut_off)
    except _Bad as bad:
        return Fault(file=name, line=number, reason=bad.reason, remedy=bad.remedy)
    return number, value


class _Bad(Exception):
    """A line that cannot be used."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(reason)
        self.reason, self.remedy = reason, remedy


def _text(line: bytes, *, cut_off: bool) -> str:
    if line.startswith(_BOM):
        raise _Bad("begins with a byte order mark", "Save the file as UTF-8 without BOM")
    if b"\0" in line:
        raise _Bad("holds a NUL byte", "Remove it; a file in UTF-16 must be saved as UTF-8")
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        if cut_off and error.end == len(line):
            raise _Bad("is cut off within a character", _CUT_OFF) from None
        raise _Bad(f"is not UTF-8 at byte {error.start + 1} of the line", "Save the file as UTF-8") from None


def _parse(text: str, *, cut_off: bool) -> dict[str, Any]:
    try:
        value = _DECODER.decode(text)
    except RecursionError:
        raise _Bad("is nested too deeply", "Flatten it") from None
    except ValueError as error:
        where = f" at column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        if cut_off:
            raise _Bad(f"is cut off or not JSON{where}", _CUT_OFF) from None
        raise _Bad(f"is not JSON{where}", "Write one JSON object per line") from None
    if not isinstance(value, dict):
        raise _Bad("is not a JSON object", 'Write one object per line, such as {"prompt": ..., "completion": ...}')
    if "\\u" in text:
        # Only an escape can bring these in: the bytes were checked.
        for inner in strings(value):
            if _HALF.search(inner):
                raise _Bad("holds half of a surrogate pair", "Write the character itself, or both halves of its escape")
            if "\0" in inner:
                raise _Bad("holds a NUL character", "Remove it")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Bad("has the same key twice in one object", "Keep one of them")
    return found


def _no_constant(_name: str) -> None:
    raise ValueError("NaN and Infinity are not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)


def strings(value: Any) -> Iterator[str]:
    """Every key and text at any depth; without recursion, since JSON may be nested deeper than Python's stack."""
    waiting = [value]
    while waiting:
        inner = waiting.pop()
        if isinstance(inner, str):
            yield inner
        elif isinstance(inner, dict):
            yield from inner
            waiting += inner.values()
        elif isinstance(inner, list):
            waiting += inner
