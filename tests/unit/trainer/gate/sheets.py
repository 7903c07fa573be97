"""Sheets made by hand, for what is decided from them."""

from collections.abc import Sequence

from services.common.settings import load
from services.trainer.gate.client import Answered
from services.trainer.gate.measure import PromptScore, RowScore, Sheet, TextScore
from services.trainer.gate.settings import GateSettings
from tests.unit.trainer.house import CONFIG


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
