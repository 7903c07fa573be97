"""The report of a judgement, for machines: what was measured of each model, the verdict, and the answers that changed most."""

from datetime import UTC, datetime
from typing import Any

import msgspec

from services.trainer.gate.measure import Sheet
from services.trainer.gate.questions import Questions
from services.trainer.gate.settings import GateSettings
from services.trainer.gate.verdict import Verdict

FORMAT = 1


class Scores(msgspec.Struct, frozen=True, kw_only=True):
    """One model's numbers; ``Sheet`` says what each means.

    Attributes:
        areas: share of right answers by area of the general prompts, such as ``arithmetic-ko``.
        answer_tokens: the shortest held-out answer, the median and the longest.
        answer_seconds: median time of a held-out answer.
    """

    model: str
    loss: float
    right_share: float
    stop_share: float
    general_share: float
    areas: dict[str, float]
    text_loss: float
    answer_tokens: list[int]
    answer_seconds: float


class ShownAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One held-out row with every model's answer.

    Attributes:
        place: ``file:line``.
        said: model -> its answer.
        right: model -> whether it passes the row's check.
        loss: model -> nats per supervised token.
    """

    place: str
    question: str
    reference: str
    said: dict[str, str]
    right: dict[str, bool]
    loss: dict[str, float]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The content of ``reports/<version>.json``; a ``services.registry.reports.Judgement`` can be read from it.

    Attributes:
        verdict: rule by rule; None where the version could not be judged.
        scores: of the base, of the version in service where there is one, of the candidate.
        settings: the gate's, as they were in force.
    """

    model: str
    manifest_sha256: str
    judged: str
    passed: bool
    reasons: list[str]
    verdict: Verdict | None
    scores: list[Scores]
    answers: list[ShownAnswer]
    settings: dict[str, Any]
    format: int = FORMAT


def build_report(
    model: str,
    manifest_sha256: str,
    verdict: Verdict,
    sheets: list[Sheet],
    questions: Questions,
    settings: GateSettings,
) -> Report:
    """Put a judgement's results together.

    Args:
        model: the version judged.
        manifest_sha256: of its manifest.
        verdict: on it.
        sheets: of the base, the version in service where there is one, the candidate last.
        questions: what was asked.
        settings: how it was judged.
    """
    return Report(
        model=model,
        manifest_sha256=manifest_sha256,
        judged=_now(),
        passed=verdict.passed,
        reasons=verdict.reasons,
        verdict=verdict,
        scores=[_scores(sheet, questions) for sheet in sheets],
        answers=_most_changed(sheets, questions, verdict.against, settings.gate.shown_answers),
        settings=msgspec.to_builtins(settings),
    )


def unjudged_report(model: str, manifest_sha256: str, reason: str, settings: GateSettings) -> Report:
    """The report of a version that the server refused: it is not better, and this is why."""
    return Report(
        model=model,
        manifest_sha256=manifest_sha256,
        judged=_now(),
        passed=False,
        reasons=[reason],
        verdict=None,
        scores=[],
        answers=[],
        settings=msgspec.to_builtins(settings),
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _scores(sheet: Sheet, questions: Questions) -> Scores:
    areas: dict[str, list[bool]] = {}
    for question, score in zip(questions.general, sheet.general, strict=True):
        areas.setdefault(f"{question.area}-{question.language}", []).append(score.right)
    lengths = sheet.answer_tokens or [0]
    return Scores(
        model=sheet.model,
        loss=sheet.loss,
        right_share=sheet.right_share,
        stop_share=sheet.stop_share,
        general_share=sheet.general_share,
        areas={area: sum(right) / len(right) for area, right in sorted(areas.items())},
        text_loss=sheet.text_loss,
        answer_tokens=[lengths[0], lengths[len(lengths) // 2], lengths[-1]],
        answer_seconds=round(sheet.seconds, 4),
    )


def _most_changed(sheets: list[Sheet], questions: Questions, against: str, count: int) -> list[ShownAnswer]:
    """The held-out rows whose loss changed most against the model that was to be improved on."""
    before, after = next(sheet for sheet in sheets if sheet.model == against), sheets[-1]
    changes = [abs(old.loss - new.loss) for old, new in zip(before.rows, after.rows, strict=True)]
    order = sorted(range(len(changes)), key=lambda place: (-changes[place], place))
    return [
        ShownAnswer(
            place=questions.held_out[place].place,
            question=questions.held_out[place].messages[-1]["content"],
            reference=questions.held_out[place].reference,
            said={sheet.model: sheet.rows[place].answer.text for sheet in sheets},
            right={sheet.model: sheet.rows[place].right for sheet in sheets},
            loss={sheet.model: round(sheet.rows[place].loss, 4) for sheet in sheets},
        )
        for place in order[:count]
    ]
