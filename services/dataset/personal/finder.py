"""Everything that is found in one text, each stretch of it once."""

import re
from collections.abc import Callable, Iterator
from functools import partial

import msgspec

from services.dataset.normalise import normalise
from services.dataset.personal.contacts import emails, phones
from services.dataset.personal.keys import keys
from services.dataset.personal.numbers import cards, ibans, resident_numbers
from services.dataset.personal.settings import Kind, PersonalSettings

_Search = Callable[[str], Iterator[tuple[int, int]]]
_DIGIT = re.compile(r"\d")  # what most of the kinds have, and most texts have not
_WITH_DIGITS = frozenset[Kind]({"iban", "resident_number", "card", "phone"})
_BETWEEN = str.maketrans("", "", " .()-\u2010\u2011\u2012\u2013\u2014\u2015")


class Found(msgspec.Struct, frozen=True):
    """One stretch of a text, from ``start`` up to ``end``."""

    kind: Kind
    start: int
    end: int


class Finder:
    """Finds the kinds that are not allowed."""

    def __init__(self, settings: PersonalSettings) -> None:
        """Look for what ``settings`` do not allow."""
        # The surest first: what one has found is not looked at by the next.
        searches: tuple[tuple[Kind, _Search], ...] = (
            ("key", keys),
            ("email", emails),
            ("iban", ibans),
            ("resident_number", resident_numbers),
            ("card", cards),
            ("phone", partial(phones, region=settings.phone_region)),
        )
        self._searches = [(kind, search) for kind, search in searches if settings.policy(kind) != "allow"]
        self._without_digits = [(kind, search) for kind, search in self._searches if kind not in _WITH_DIGITS]
        self._ours = frozenset(map(_plain, settings.ours))

    def __call__(self, text: str) -> list[Found]:
        """What was found, in order of place."""
        found: list[Found] = []
        for kind, search in self._searches if _DIGIT.search(text) else self._without_digits:
            spans = list(search(text))
            found += [Found(kind, start, end) for start, end in spans if not self._is_ours(text[start:end])]
            if spans:
                text = _blanked(text, spans)
        return sorted(found, key=lambda item: item.start)

    def _is_ours(self, stretch: str) -> bool:
        return bool(self._ours) and _plain(stretch) in self._ours


def _blanked(text: str, spans: list[tuple[int, int]]) -> str:
    """The text with spaces in these places, which are in order."""
    pieces, before = [], 0
    for start, end in spans:
        pieces += [text[before:start], " " * (end - start)]
        before = end
    return "".join([*pieces, text[before:]])


def _plain(text: str) -> str:
    """A text without what only sets its parts apart."""
    return normalise(text).translate(_BETWEEN)
