"""From sheets to a verdict: every rule by itself, with its numbers and what they had to reach."""

import msgspec

from services.trainer.gate.bootstrap import Difference, paired_difference
from services.trainer.gate.measure import Sheet
from services.trainer.gate.settings import GateSettings


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """One rule and whether the candidate keeps it.

    Attributes:
        name: what is asked for.
        passed: whether it is so.
        found: the measured numbers, as a sentence.
        wanted: the limit and its setting.
        difference: where a difference was resampled.
    """

    name: str
    passed: bool
    found: str
    wanted: str
    difference: Difference | None = None


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the candidate is better than what serves, and by which rules.

    Attributes:
        passed: every rule was kept.
        against: the model that it had to improve on: the version in service, or the base.
    """

    passed: bool
    against: str
    rules: list[Rule]

    @property
    def reasons(self) -> list[str]:
        """One sentence for each rule that was broken."""
        return [f"{rule.name}: {rule.found}; wanted {rule.wanted}" for rule in self.rules if not rule.passed]


def decide(base: Sheet, current: Sheet | None, candidate: Sheet, settings: GateSettings) -> Verdict:
    """Hold the candidate to every rule.

    Args:
        base: the base model's sheet.
        current: of the version in service; None where there is none.
        candidate: of the version to judge, on the same questions.
        settings: limits and how to resample.
    """
    against = current or base
    rules = [_enough_rows(candidate, settings)]
    if candidate.rows:
        rules += [
            _holdout_improves(against, candidate, settings),
            _answers_stay_right(against, candidate, settings),
            _answers_end(candidate, settings),
        ]
    rules += [_general_prompts_stay(base, candidate, settings), _general_texts_stay(base, candidate, settings)]
    return Verdict(passed=all(rule.passed for rule in rules), against=against.model, rules=rules)


def _enough_rows(candidate: Sheet, settings: GateSettings) -> Rule:
    count, least = len(candidate.rows), settings.verdict.min_holdout_rows
    return Rule(
        name="enough held-out rows",
        passed=count >= least,
        found=f"{count} rows are held out",
        wanted=f"at least verdict.min_holdout_rows = {least} (add rows, or raise data.holdout_share)",
    )


def _holdout_improves(against: Sheet, candidate: Sheet, settings: GateSettings) -> Rule:
    gain = _resampled(
        [old.loss - new.loss for old, new in zip(against.rows, candidate.rows, strict=True)],
        [float(row.tokens) for row in candidate.rows],
        settings,
    )
    least = settings.verdict.min_holdout_gain
    return Rule(
        name="held-out loss improves",
        passed=gain.low > least,
        found=f"{candidate.loss:.4f} against {against.loss:.4f} nats per token ({against.model}), a gain of {gain.mean:.4f}, "
        f"at least {gain.low:.4f} at {settings.gate.confidence:.0%} confidence over {gain.rows} rows",
        wanted=f"more than verdict.min_holdout_gain = {least:g}",
        difference=gain,
    )


def _answers_stay_right(against: Sheet, candidate: Sheet, settings: GateSettings) -> Rule:
    drop = _resampled(
        [float(old.right) - float(new.right) for old, new in zip(against.rows, candidate.rows, strict=True)],
        [1.0] * len(candidate.rows),
        settings,
    )
    most = settings.verdict.max_score_drop
    return Rule(
        name="held-out answers stay right",
        passed=drop.low <= most,
        found=f"{candidate.right_share:.0%} right against {against.right_share:.0%} ({against.model})",
        wanted=f"no drop over verdict.max_score_drop = {most:.0%} beyond noise",
        difference=drop,
    )


def _answers_end(candidate: Sheet, settings: GateSettings) -> Rule:
    least = settings.verdict.min_stop_share
    return Rule(
        name="answers end",
        passed=candidate.stop_share >= least,
        found=f"{candidate.stop_share:.0%} of the held-out answers end by themselves",
        wanted=f"at least verdict.min_stop_share = {least:.0%}",
    )


def _general_prompts_stay(base: Sheet, candidate: Sheet, settings: GateSettings) -> Rule:
    drop = _resampled(
        [float(old.right) - float(new.right) for old, new in zip(base.general, candidate.general, strict=True)],
        [1.0] * len(candidate.general),
        settings,
    )
    most = settings.verdict.max_general_drop
    return Rule(
        name="general prompts are not forgotten",
        passed=drop.mean <= most,
        found=f"{candidate.general_share:.0%} of {len(candidate.general)} right against {base.general_share:.0%} ({base.model})",
        wanted=f"a drop of at most verdict.max_general_drop = {most:.0%}",
        difference=drop,
    )


def _general_texts_stay(base: Sheet, candidate: Sheet, settings: GateSettings) -> Rule:
    rise = _resampled(
        [new.loss - old.loss for old, new in zip(base.texts, candidate.texts, strict=True)],
        [float(text.tokens) for text in candidate.texts],
        settings,
    )
    most = settings.verdict.max_text_loss_rise
    return Rule(
        name="general texts stay likely",
        passed=rise.mean <= most,
        found=f"{candidate.text_loss:.3f} against {base.text_loss:.3f} nats per token ({base.model})",
        wanted=f"a rise of at most verdict.max_text_loss_rise = {most:g}",
        difference=rise,
    )


def _resampled(differences: list[float], weights: list[float], settings: GateSettings) -> Difference:
    judging = settings.gate
    return paired_difference(
        differences, weights, samples=judging.bootstrap_samples, confidence=judging.confidence, seed=judging.seed
    )
