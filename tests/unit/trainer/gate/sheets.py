"""Sheets and a report made by hand, for what is decided from them and shown."""

from collections.abc import Sequence

from services.common.settings import load
from services.dataset.checks import Check
from services.trainer.gate.client import Answered
from services.trainer.gate.measure import PromptScore, RowScore, Sheet, TextScore
from services.trainer.gate.questions import HeldOut, Questions
from services.trainer.gate.report import Report, build_report
from services.trainer.gate.settings import GateSettings
from services.trainer.gate.suite import general_prompts
from services.trainer.gate.verdict import decide
from tests.unit.trainer.house import CONFIG

HOSTILE = '<script>alert(1)</script><img src="http://192.0.2.1/x">'


def settings(*overrides: str) -> GateSettings:
    """The shipped settings, with overrides."""
    return load("gate", GateSettings, overrides, folder=CONFIG)


def sheet(
    model: str,
    losses: Sequence[float],
    *,
    right: float = 1.0,
    stopped: float = 1.0,
    general: float = 0.5,
    text_loss: float = 3.0,
    prompts: int = 120,
) -> Sheet:
    """A model whose first ``right`` share of answers is right, and so on; ten tokens a row."""
    count = len(losses)
    return Sheet(
        model=model,
        rows=[
            RowScore(
                loss=loss,
                tokens=10,
                answer=Answered(text=f"{model} says {place}", stopped=place < stopped * count, tokens=10, seconds=0.1),
                right=place < right * count,
            )
            for place, loss in enumerate(losses)
        ],
        general=[PromptScore(str(place), place < general * prompts) for place in range(prompts)],
        texts=[TextScore(str(place), text_loss, 50) for place in range(5)],
    )


def hand_made_report(rows: int = 6, shown: int = 4) -> Report:
    questions = Questions(
        held_out=[
            HeldOut(
                place=f"faq.jsonl:{place}",
                row_hash="a" * 64,
                token_ids=[1, 2],
                supervised=[1],
                messages=[{"role": "user", "content": HOSTILE}],
                reference="right",
                check=Check(exact="right"),
                max_tokens=8,
            )
            for place in range(rows)
        ],
        general=general_prompts(10),
        texts=[],
    )
    losses = [1.0 + place for place in range(rows)]
    sheets = [
        sheet("base", losses, prompts=10),
        sheet("acme@1", [0.9 * loss for loss in losses], prompts=10),
        sheet("acme@2", [0.1] * rows, prompts=10),
    ]
    chosen = settings(f"gate.shown_answers={shown}")
    return build_report("acme@2", "f" * 64, decide(sheets[0], sheets[1], sheets[2], chosen), sheets, questions, chosen)
