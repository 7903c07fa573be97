"""The rules: each is broken by what it is there to find, and by nothing else."""

import pytest

from services.trainer.gate.bootstrap import paired_difference
from services.trainer.gate.measure import Sheet
from services.trainer.gate.verdict import Verdict, decide
from tests.unit.trainer.gate.sheets import settings, sheet

BASE = sheet("base", [3.0, 2.5, 2.8, 3.2, 2.9, 3.1], right=0.0, stopped=0.5)
GOOD = sheet("acme@2", [0.5, 0.4, 0.6, 0.5, 0.7, 0.4])


def _broken(verdict: Verdict) -> list[str]:
    assert verdict.passed is (not verdict.reasons)
    return [rule.name for rule in verdict.rules if not rule.passed]


def test_a_version_that_is_better_passes() -> None:
    """Against the base where it is the first, against the version in service afterwards."""
    first = decide(BASE, None, GOOD, settings())
    assert (first.passed, first.against) == (True, "base")
    better = sheet("acme@3", [0.2, 0.3, 0.2, 0.1, 0.3, 0.2])
    second = decide(BASE, GOOD, better, settings())
    assert (second.passed, second.against) == (True, "acme@2")


@pytest.mark.parametrize(
    ("candidate", "rule"),
    [
        (sheet("c", [3.0, 2.5, 2.8, 3.2, 2.9, 3.1]), "held-out loss improves"),
        (sheet("c", [0.5] * 6, stopped=0.5), "answers end"),
        (sheet("c", [0.5] * 6, general=0.3), "general prompts are not forgotten"),
        (sheet("c", [0.5] * 6, text_loss=4.0), "general texts stay likely"),
    ],
)
def test_each_rule_is_broken_by_what_it_is_there_to_find(candidate: Sheet, rule: str) -> None:
    """And the reason says the rule, what was found, and the setting."""
    verdict = decide(BASE, None, candidate, settings())
    assert _broken(verdict) == [rule]
    assert "verdict." in verdict.reasons[0]


def test_answers_that_were_right_and_are_not_any_more_refuse_a_version() -> None:
    """Though its loss is lower; one answer of many is noise, most of them are not."""
    current = sheet("acme@1", [1.0] * 20, right=1.0)
    assert _broken(decide(BASE_OF_20, current, sheet("c", [0.5] * 20, right=0.95), settings())) == []
    assert _broken(decide(BASE_OF_20, current, sheet("c", [0.5] * 20, right=0.4), settings())) == [
        "held-out answers stay right"
    ]


BASE_OF_20 = sheet("base", [3.0] * 20, right=0.0)


def test_an_improvement_within_noise_is_none() -> None:
    """A mean that is better because of one row is not better on rows like these."""
    current = sheet("acme@1", [1.0] * 20)
    lucky = sheet("c", [0.0, *[1.02] * 19])
    verdict = decide(BASE_OF_20, current, lucky, settings())
    assert lucky.loss < current.loss
    assert _broken(verdict) == ["held-out loss improves"]
    assert "at 95% confidence over 20 rows" in verdict.reasons[0]


def test_too_few_held_out_rows_refuse_a_version() -> None:
    """Also none at all; the remedy is told."""
    for losses in ([], [0.1, 0.1]):
        base = sheet("base", [3.0] * len(losses))
        verdict = decide(base, None, sheet("c", losses), settings())
        assert "enough held-out rows" in _broken(verdict)
        assert "data.holdout_share" in verdict.reasons[0]


def test_the_same_sheets_get_the_same_verdict() -> None:
    assert decide(BASE, None, GOOD, settings()) == decide(BASE, None, GOOD, settings())


def test_the_bootstrap_agrees_with_what_is_known_of_it() -> None:
    """Equal differences have no spread; for many normal ones the bounds are the mean -+ 1.645 standard errors."""
    flat = paired_difference([0.5] * 9, [1.0] * 9, samples=1000, confidence=0.95, seed=1)
    assert (flat.mean, flat.low, flat.high) == (0.5, 0.5, 0.5)
    values = [((place * 7919) % 1000) / 1000 for place in range(400)]  # even over 0 to 1: deviation 0.2887
    spread = paired_difference(values, [1.0] * 400, samples=20_000, confidence=0.95, seed=1)
    error = 1.645 * 0.2887 / 20
    assert spread.low == pytest.approx(spread.mean - error, abs=0.0015)
    assert spread.high == pytest.approx(spread.mean + error, abs=0.0015)


def test_weights_count_in_the_mean() -> None:
    """A row of many tokens says more than one of few."""
    assert paired_difference([1.0, 0.0], [3.0, 1.0], samples=200, confidence=0.9, seed=1).mean == 0.75
