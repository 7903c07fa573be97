"""The forgetting suite that ships with the project: general prompts with checkable answers, and general texts."""

from importlib.resources import files
from typing import Literal, TypeVar

import msgspec

from services.dataset.checks import Check

T = TypeVar("T")
Area = Literal["arithmetic", "instruction", "format", "refusal", "knowledge"]
Language = Literal["en", "ko"]


class GeneralPrompt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One prompt of the suite.

    Attributes:
        max_tokens: enough for a right answer.
        right: an answer that passes; tests hold the check to it.
        wrong: an answer that fails.
    """

    id: str
    area: Area
    language: Language
    prompt: str
    max_tokens: int
    check: Check
    right: str
    wrong: str


class GeneralText(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Ordinary prose whose log-likelihood is compared."""

    id: str
    language: Language
    text: str


def general_prompts(count: int | None = None) -> list[GeneralPrompt]:
    """The suite's prompts; of ``count`` each area and language gets its share, the same ones every time."""
    return _spread(_read("general.jsonl", GeneralPrompt), count)


def general_texts(count: int | None = None) -> list[GeneralText]:
    """The suite's texts; of ``count`` each language gets its share, the same ones every time."""
    return _spread(_read("texts.jsonl", GeneralText), count)


def _spread(every: list[T], count: int | None) -> list[T]:
    if count is None or count >= len(every):
        return every
    return [every[place * len(every) // count] for place in range(count)]


def _read(name: str, kind: type[T]) -> list[T]:
    raw = files(__package__).joinpath(name).read_bytes()
    return [msgspec.json.decode(line, type=kind) for line in raw.splitlines()]
