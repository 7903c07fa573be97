"""What was found in all rows: counts and places, never the content."""

from collections.abc import Iterable

import msgspec

from services.dataset.personal.settings import Kind, Policy

MAX_PLACES = 1000
_SHOWN_PLACES = 10
NAMES: dict[Kind, tuple[str, str]] = {
    "email": ("e-mail address", "e-mail addresses"),
    "phone": ("phone number", "phone numbers"),
    "resident_number": ("resident registration number", "resident registration numbers"),
    "card": ("payment card number", "payment card numbers"),
    "iban": ("IBAN", "IBANs"),
    "key": ("secret key", "secret keys"),
}
_DONE: dict[Policy, str] = {"warn": "kept", "redact": "replaced in what is trained"}


class PersonalReport(msgspec.Struct, kw_only=True):
    """One kind.

    Attributes:
        policy: that was in force.
        count: how many were found.
        rows: how many rows hold one.
        places: ``file:line`` of the first 1,000 of those rows.
    """

    kind: Kind
    policy: Policy
    count: int = 0
    rows: int = 0
    places: list[str] = []


def counted(report: PersonalReport) -> str:
    """How many were found and what was done, such as ``3 phone numbers (kept)``."""
    return f"{report.count:,} {NAMES[report.kind][report.count != 1]} ({_DONE[report.policy]})"


def told(reports: Iterable[PersonalReport]) -> list[str]:
    """A sentence for each kind, with the first places."""
    return [_sentence(report) for report in reports]


def _sentence(report: PersonalReport) -> str:
    shown = ", ".join(report.places[:_SHOWN_PLACES])
    left = report.rows - min(report.rows, _SHOWN_PLACES)
    more = f" and {left:,} more rows" if left else ""
    return f"likely personal data: {counted(report)}: {shown}{more}"
