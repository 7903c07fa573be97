"""What a line of rows is searched for, and how its spelling may differ."""

import unicodedata

import pytest

from services.purge.needles import Needles, NeedlesRefused


@pytest.mark.parametrize(
    ("needle", "line"),
    [
        ("김민지", '{"prompt": "김민지 님"}'),
        ("김민지", r'{"prompt": "\uae40\ubbfc\uc9c0"}'),
        ("김민지", unicodedata.normalize("NFD", '{"prompt": "김민지"}')),
        ("minji kim", '{"prompt": "MINJI  KIM"}'),
        ("minji kim", r'{"prompt": "Minji\nKim"}'),
        ("minji", '{"prompt": "\uff2d\uff29\uff2e\uff2a\uff29"}'),
        ("STRASSE", '{"prompt": "straße"}'),
        ("minji", '{"id": "minji", "prompt": "a"}'),
        ("minji", '{"minji": 1}'),
        ("4711", '{"customer": 4711}'),
        ('the "boss"', r'{"prompt": "the \"boss\""}'),
        ("minji", '{"prompt": "minji'),
        ("minji", "minji \\u and no JSON"),
    ],
    ids=[
        "as it is",
        "escaped",
        "letters in parts",
        "case and spaces",
        "a line break",
        "full width",
        "a folded letter",
        "in a note",
        "in a key",
        "in a number",
        "quotes",
        "cut off",
        "no JSON",
    ],
)
def test_a_spelling_that_says_the_same_is_found(needle: str, line: str) -> None:
    assert Needles([needle]).found_in(line.encode()) == [0]


def test_other_texts_are_not_found() -> None:
    """Not across two texts of a row either; bytes that are no text are no obstacle."""
    assert Needles(["minji kim"]).found_in(rb'{"prompt": "\"minji", "completion": "kim"}') == []
    assert Needles(["minji"]).found_in(b"\xff\xfe\0") == []


def test_each_needle_is_told_by_its_number() -> None:
    assert Needles(["a1", "", "b2", "c3"]).found_in(b'{"prompt": "c3 a1"}') == [0, 2]


def test_what_would_be_found_everywhere_is_refused() -> None:
    """By its number: the message goes to a terminal and perhaps a log."""
    with pytest.raises(NeedlesRefused, match="text 2 has fewer than 2 characters") as refused:
        Needles(["minji", "q"])
    assert "q" not in str(refused.value).split()
    with pytest.raises(NeedlesRefused, match="more than"):
        Needles(["minji"] * 10_001)
