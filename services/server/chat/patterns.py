"""How long the patterns of a JSON schema become: the grammar's compiler writes counted repetitions out."""

import re
from collections.abc import Iterator
from typing import Any

_COUNT = re.compile(r"\{(\d+)(?:,(\d*))?\}")
# An escape, a set (one that does not end goes on to the end, else each of many would be read to the end), a group's beginning, a letter.
_ATOM = re.compile(r"\\.|\[(?:\\.|[^\]\\])*\]?|\(\?[:=!]|[^\\]", re.DOTALL)
_OPENS = {"(", "(?:", "(?=", "(?!"}
_DIGITS = 6
_MOST = 10**_DIGITS  # where counting ends: nobody needs the digits of what is refused


def counted_items(schema: Any) -> int:
    """So many items all counted repetitions of a schema's patterns stand for: 16 in ``([a-z]{3}-){4}``."""
    return sum(_counted(pattern) for pattern in _patterns(schema))


def _patterns(schema: Any) -> Iterator[str]:
    waiting = [schema]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if isinstance(pattern := value.get("pattern"), str):
                yield pattern
            if isinstance(named := value.get("patternProperties"), dict):
                yield from named
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


def _counted(pattern: str) -> int:
    """Items within counted repetitions, written out; a group that is repeated repeats what it counts."""
    groups: list[tuple[int, int]] = []  # size and counted items of what is before each open group
    size = counted = 0
    last_size = last_counted = 0  # of the last item, which a count is about
    place = 0
    while place < len(pattern):
        if count := _COUNT.match(pattern, place):
            times = max(_number(count[1]), _number(count[2] or ""))
            written_out = min(last_size * times, _MOST)
            size += written_out - last_size
            counted += written_out - last_counted
            last_size = last_counted = written_out
            place = count.end()
            continue
        atom = _ATOM.match(pattern, place)
        text = atom[0] if atom else pattern[place]
        place += len(text)
        if text in _OPENS:
            groups.append((size, counted))
            size = counted = last_size = last_counted = 0
        elif text == ")" and groups:
            last_size, last_counted = size, counted
            before_size, before_counted = groups.pop()
            size, counted = before_size + size, before_counted + counted
        elif text not in "*+?|^$":
            size, last_size, last_counted = size + 1, 1, 0
    return counted + sum(before for _, before in groups)


def _number(digits: str) -> int:
    return _MOST if len(digits) > _DIGITS else int(digits or 0)
