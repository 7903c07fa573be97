"""How long patterns become once their counts are written out."""

import time
from typing import Any

import pytest

from services.server.chat.patterns import counted_items


@pytest.mark.parametrize(
    ("pattern", "items"),
    [
        ("^[a-z]+@[a-z]+$", 0),
        ("a{3}", 3),
        ("a{2,7}b", 7),
        ("a{4,}", 4),
        ("([a-z]{3}-){4}", 16),
        ("((a{10}){10}){10}", 1000),
        ("(a|bc){5}d{2}", 17),
        (r"\d{4}-\d{2}", 6),
        (r"\(a{3}", 3),
        ("[({]{3}[^{2}]{2}", 5),
        ("(?:ab){3}", 6),
        ("a{2}{3}", 6),
        (r"[\]x]{6}", 6),
        ("{x}{", 0),
        ("(a{9}", 9),
        ("a{9}(", 9),
        ("a{" + "9" * 5000 + "}", 10**6),
    ],
)
def test_counts_are_written_out(pattern: str, items: int) -> None:
    """Groups multiply, sets and escapes are one item, and what is no count counts nothing."""
    assert counted_items({"type": "string", "pattern": pattern}) == items


@pytest.mark.parametrize("pattern", ["[" * 60_000, "(" * 60_000, "a{9" * 20_000, "(" * 7000 + "a" + "){999999}" * 7000])
def test_gigantic_patterns_are_read_in_a_moment(pattern: str) -> None:
    """They are read on the event loop: neither squares nor endless digits."""
    began = time.perf_counter()
    assert counted_items({"pattern": pattern}) <= 10**6
    assert time.perf_counter() - began < 0.5


def test_all_patterns_of_a_schema_count_together() -> None:
    """Wherever they are, names of properties among them; a property that is called ``pattern`` is none."""
    schema: dict[str, Any] = {
        "properties": {"pattern": {"anyOf": [{"pattern": "a{2}"}, {"pattern": "b{3}"}]}},
        "patternProperties": {"^c{4}$": {"items": {"pattern": "d{5}"}}},
    }
    assert counted_items([schema]) == 14
