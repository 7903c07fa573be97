"""Whether a base model can be trained on joined rows: held against its own forward pass before the first update."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from services.trainer.training.job import TrainingFailed
from services.trainer.training.packed.attention import NAME
from services.trainer.training.packed.batch import NOT_LEARNT, join
from services.trainer.training.packed.step import PassRunner, in_precision

CHECKED_ROWS, CHECKED_TOKENS = 2, 64
_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 3e-2}  # relative; seen: 1e-6 and 2e-3


class Reference:
    """The loss of a few rows, each by itself and in transformers' own way: taken before anything is replaced.

    Args:
        model: with its adapter.
        rows: some of the rows to train on.
        precision: of the arithmetic.
    """

    def __init__(self, model: Any, rows: Sequence[dict[str, list[int]]], precision: torch.dtype) -> None:
        self._model = model
        self._precision = precision
        self._rows = [
            {"input_ids": row["input_ids"][:CHECKED_TOKENS], "labels": list(row["input_ids"][:CHECKED_TOKENS])}
            for row in rows[:CHECKED_ROWS]
            if len(row["input_ids"]) > 1
        ]
        with _evaluating(model):
            self._own = self._own_loss()

    def require_same(self, run: PassRunner) -> None:
        """Compare with the loss of the joined rows.

        It finds a model whose layers see beyond a row's edge, or whose head does more than multiply.

        Raises:
            TrainingFailed: they differ, or the model's attention knows more than rows have here.
        """
        joined = join(self._rows, 1, room=CHECKED_ROWS).to(next(self._model.parameters()).device)
        try:
            with _evaluating(self._model):
                packed = float(run.loss(joined).loss)
        except NotImplementedError as error:
            raise TrainingFailed(f'{error}; set recipe.backend = "unsloth" for this base model') from error
        if abs(packed - self._own) > _TOLERANCE[self._precision] * abs(self._own):
            raise TrainingFailed(
                f"joined rows have a loss of {packed:.4f}, each by itself {self._own:.4f}: this base model's layers see "
                'beyond a row; set recipe.backend = "unsloth"'
            )

    def _own_loss(self) -> float:
        base = self._model.get_base_model()
        device = next(self._model.parameters()).device
        base.set_attn_implementation("sdpa")
        total = 0.0
        try:
            for row in self._rows:
                tokens = torch.tensor([row["input_ids"]], device=device)
                with in_precision(self._precision, device):
                    logits = self._model(input_ids=tokens, use_cache=False).logits[0, :-1].float()
                total += float(
                    torch.nn.functional.cross_entropy(logits, tokens[0, 1:], ignore_index=NOT_LEARNT, reduction="sum")
                )
        finally:
            base.set_attn_implementation(NAME)
        return total


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)
