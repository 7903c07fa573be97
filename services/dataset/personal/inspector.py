"""Looks through the texts of rows, and does with what it finds as the policy says."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from services.dataset.faults import Fault
from services.dataset.personal.finder import Finder, Found
from services.dataset.personal.report import MAX_PLACES, NAMES, PersonalReport
from services.dataset.personal.settings import Kind, PersonalSettings

PLACEHOLDERS: dict[Kind, str] = {
    "email": "[E-MAIL]",
    "phone": "[PHONE]",
    "resident_number": "[RESIDENT NUMBER]",
    "card": "[CARD]",
    "iban": "[IBAN]",
    "key": "[KEY]",
}
# The formats' own.
_KEYS = frozenset({"system", "instruction", "input", "output", "prompt", "completion", "messages", "conversations"}) | {
    *("role", "content", "from", "value", "text"),
    *("check", "exact", "contains", "regex", "json_schema"),
}
_Path = tuple[str | int, ...]


class Inspector:
    """Inspects row after row, and keeps the counts of all of them."""

    def __init__(self, settings: PersonalSettings) -> None:
        """Do as ``settings`` say."""
        self._settings = settings
        self._find = Finder(settings)
        self._reports: dict[Kind, PersonalReport] = {}

    @property
    def reports(self) -> list[PersonalReport]:
        """What was found until now, but for what was refused."""
        return [self._reports[kind] for kind in PLACEHOLDERS if kind in self._reports]

    def __call__(self, row: dict[str, Any], file: str, line: int) -> list[Fault]:
        """Look through every text of a row, its notes included; replace in place what is to be replaced.

        Args:
            row: a line's object, which this changes.
            file: it is of.
            line: counted from 1.

        Returns:
            a fault for each field and kind that is refused.
        """
        faults: list[Fault] = []
        kept: Counter[Kind] = Counter()
        for owner, key, path in _texts(row):
            if not (found := self._find(owner[key])):
                continue
            refused = {item.kind for item in found if self._settings.policy(item.kind) == "refuse"}
            faults += [_fault(file, line, _field(path, key), kind) for kind in sorted(refused)]
            kept.update(item.kind for item in found if item.kind not in refused)
            owner[key] = self._redacted(owner[key], found)
        for kind, count in kept.items():
            self._count(kind, count, f"{file}:{line}")
        return faults

    def _redacted(self, text: str, found: list[Found]) -> str:
        for item in reversed(found):
            if self._settings.policy(item.kind) == "redact":
                text = text[: item.start] + PLACEHOLDERS[item.kind] + text[item.end :]
        return text

    def _count(self, kind: Kind, count: int, place: str) -> None:
        report = self._reports.setdefault(kind, PersonalReport(kind=kind, policy=self._settings.policy(kind)))
        report.count += count
        report.rows += 1
        if report.rows <= MAX_PLACES:
            report.places.append(place)


def _fault(file: str, line: int, field: str, kind: Kind) -> Fault:
    remedy = f'Remove it, or set data.personal.{kind} to "redact" or "warn"'
    return Fault(file=file, line=line, field=field, reason=f"holds a likely {NAMES[kind][0]}", remedy=remedy)


def _texts(row: dict[str, Any]) -> Iterator[tuple[Any, Any, _Path]]:
    """Every text at any depth: what holds it, its key or place there, and the way to it.

    Without recursion: JSON may be nested deeper than Python's stack.
    """
    waiting: list[tuple[Any, _Path]] = [(row, ())]
    while waiting:
        owner, path = waiting.pop()
        for key, value in list(owner.items() if isinstance(owner, dict) else enumerate(owner)):
            if isinstance(value, str):
                yield owner, key, path
            elif isinstance(value, dict | list):
                waiting.append((value, (*path, key)))


def _field(path: _Path, key: str | int) -> str:
    """Such as ``messages[2].content``; a key of the operator's own is not told, for it may be content."""
    field = ""
    for part in (*path, key):
        if isinstance(part, int):
            field += f"[{part}]"
        elif part in _KEYS:
            field += f".{part}" if field else part
        else:
            return f"{field}, a key of your own" if field else "a key of your own"
    return field
