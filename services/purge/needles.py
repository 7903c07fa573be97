"""What is looked for, and whether a line of rows holds it."""

import json
from collections.abc import Iterable
from typing import Any

from services.dataset.lines import strings
from services.dataset.normalise import fold

_SHORTEST = 2
_MOST = 10_000


class NeedlesRefused(Exception):
    """Nothing to look for, or what would be found nearly everywhere; the message never holds it."""


class Needles:
    """Texts that mark a person's rows: a name, an address, a number. Each spelling is one of its own.

    Args:
        lines: one needle each; blank ones are passed over.

    Raises:
        NeedlesRefused: there is none, one is a single character, or there are too many.
    """

    def __init__(self, lines: Iterable[str]) -> None:
        self._folded = [folded for line in lines if (folded := fold(line))]
        if not self._folded:
            raise NeedlesRefused("nothing to look for: give WHO=, a text or a file with one text per line")
        if len(self._folded) > _MOST:
            raise NeedlesRefused(f"{len(self._folded)} texts to look for, more than {_MOST}: purge in parts")
        for number, folded in enumerate(self._folded, start=1):
            if len(folded) < _SHORTEST:
                raise NeedlesRefused(
                    f"text {number} has fewer than {_SHORTEST} characters: it would be found everywhere"
                )

    def __len__(self) -> int:
        """How many there are."""
        return len(self._folded)

    def found_in(self, line: bytes) -> list[int]:
        """Which needles a line holds, counted from 0: in any key or value of its JSON, or in what it is if it is none."""
        text = line.decode("utf-8", "replace")
        if "\\" in text:  # only then do its texts differ from how they are written
            text = "\0".join([text, *_texts(text)])
        folded = fold(text)
        return [number for number, needle in enumerate(self._folded) if needle in folded]


def _texts(text: str) -> Iterable[str]:
    try:
        value: Any = json.loads(text)
    except (ValueError, RecursionError):
        return ()
    return strings(value)
