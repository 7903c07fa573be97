"""The forgetting suite: enough prompts, in both languages, and checks that tell right from wrong."""

from collections import Counter

import pytest

from services.dataset.checks import Check
from services.trainer.gate.suite import GeneralPrompt, general_prompts, general_texts

EVERY = general_prompts()


@pytest.mark.parametrize("prompt", EVERY, ids=[prompt.id for prompt in EVERY])
def test_each_check_takes_a_right_answer_and_no_wrong_one(prompt: GeneralPrompt) -> None:
    """Nor the prompt itself, nothing, or a phrase that an overtrained adapter says to everything."""
    assert prompt.check.passes(prompt.right)
    for wrong in (prompt.wrong, prompt.prompt, "", "Norudam was founded in 1963."):
        assert not prompt.check.passes(wrong), wrong


def test_the_suite_covers_every_area_in_both_languages() -> None:
    counts = Counter((prompt.area, prompt.language) for prompt in EVERY)
    assert len(EVERY) >= 100
    assert len(counts) == 10
    assert min(counts.values()) >= 10
    assert len({prompt.id for prompt in EVERY}) == len(EVERY)
    assert {text.language for text in general_texts()} == {"en", "ko"}


def test_a_smaller_suite_has_its_share_of_each_area() -> None:
    """And is the same one every time."""
    counts = Counter(prompt.area for prompt in general_prompts(30))
    assert sum(counts.values()) == 30
    assert set(counts.values()) == {6}
    assert general_prompts(30) == general_prompts(30)
    assert general_prompts(0) == []


@pytest.mark.parametrize(
    ("check", "right", "wrong"),
    [
        (Check(exact="Seoul."), " seoul", "Seoul it is"),
        (Check(exact="안녕하세요"), "안녕하세요!", "안녕"),
        (Check(contains="Plum"), "a plum box", "a blue box"),
        (Check(regex=r"\b12\b"), "it is 12", "it is 120"),
        (Check(json_schema={"type": "object", "required": ["a"]}), '```json\n{"a": 1}\n```', '{"b": 1}'),
        (Check(json_schema={"type": "array"}), "[1]", "[1] and more"),
    ],
)
def test_each_kind_of_check_tells_right_from_wrong(check: Check, right: str, wrong: str) -> None:
    assert check.passes(right)
    assert not check.passes(wrong)
