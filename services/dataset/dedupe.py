"""Rows that say the same: exact copies, and copies that differ only in case, width, white space or a closing full stop.

Paraphrases are kept on purpose: they are what lets a small model learn a fact (docs/decisions/0030).
"""

import hashlib
from collections.abc import Iterable

import msgspec

from services.dataset.normalise import normalise
from services.dataset.rows import Message, Row


class Deduped(msgspec.Struct, frozen=True, kw_only=True):
    """The rows that stay, in order, and the places of those that do not.

    Attributes:
        near_hashes: one per kept row: a hash of its text without case, width, white space and closing marks.
        exact: dropped rows that are equal to an earlier one.
        near: dropped rows that are equal to an earlier one but for those.
        conflicts: kept rows whose question an earlier row answers differently.
    """

    rows: list[Row]
    near_hashes: list[str]
    exact: list[Row]
    near: list[Row]
    conflicts: list[Row]


def dedupe(rows: Iterable[Row]) -> Deduped:
    """Keep the first of each group of rows that say the same."""
    exact_seen: set[str] = set()
    near_seen: set[str] = set()
    questions: set[str] = set()
    result = Deduped(rows=[], near_hashes=[], exact=[], near=[], conflicts=[])
    for row in rows:
        if row.sha256 in exact_seen:
            result.exact.append(row)
            continue
        exact_seen.add(row.sha256)
        said = [_normalised(message) for message in row.messages]
        near, question = _hash(said), _hash(said[:-1])
        if near in near_seen:
            result.near.append(row)
            continue
        near_seen.add(near)
        if question in questions:
            result.conflicts.append(row)
        questions.add(question)
        result.rows.append(row)
        result.near_hashes.append(near)
    return result


def _normalised(message: Message) -> str:
    """Ignores case, width, white space and closing marks; any other sign can carry meaning (-5, 3.5, code)."""
    return f"{message.role}\x1f{normalise(message.content)}"


def _hash(said: Iterable[str]) -> str:
    return hashlib.sha256("\x1e".join(said).encode("utf-8", "surrogatepass")).hexdigest()
