"""Whether a base model can be trained on joined rows: held against its own forward pass before the first update."""

from collections.abc import Sequence
from typing import Any

import torch

from services.trainer.training.job import TrainingFailed
from services.trainer.training.packed.attention import NAME
from services.trainer.training.packed.batch import NOT_LEARNT, Rounding, join
from services.trainer.training.packed.step import PassRunner

CHECKED_ROWS, _TOKENS = 2, 64
_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 3e-2}  # relative; seen: 1e-6 and 2e-3


def require_packable(model: Any, run: PassRunner, rows: Sequence[dict[str, list[int]]], precision: torch.dtype) -> None:
    """Compare the loss of rows that are joined with that of each by itself, in transformers' own way.

    It finds a model whose layers see beyond a row's edge, or whose head does more than multiply.

    Args:
        model: with its adapter.
        run: the packed way.
        rows: some of the rows to train on.
        precision: of the arithmetic.

    Raises:
        TrainingFailed: they differ, or the model's attention knows more than rows have here.
    """
    short = [
        {"input_ids": row["input_ids"][:_TOKENS], "labels": list(row["input_ids"][:_TOKENS])}
        for row in rows[:CHECKED_ROWS]
        if len(row["input_ids"]) > 1
    ]
    device = next(model.parameters()).device
    joined = join(short, Rounding(1, 1), room=CHECKED_ROWS).to(device)
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            packed = float(run.loss(joined).loss)
            own = _own_loss(model, short, device, run)
    except NotImplementedError as error:
        raise TrainingFailed(f'{error}; set recipe.backend = "unsloth" for this base model') from error
    finally:
        model.train(was_training)
    if abs(packed - own) > _TOLERANCE[precision] * abs(own):
        raise TrainingFailed(
            f"joined rows have a loss of {packed:.4f}, each by itself {own:.4f}: this base model's layers see beyond a row; "
            'set recipe.backend = "unsloth"'
        )


def _own_loss(model: Any, rows: Sequence[dict[str, list[int]]], device: torch.device, run: PassRunner) -> float:
    base = model.get_base_model()
    base.set_attn_implementation("sdpa")
    total = 0.0
    try:
        for row in rows:
            tokens = torch.tensor([row["input_ids"]], device=device)
            with run.precision():
                logits = model(input_ids=tokens, use_cache=False).logits[0, :-1].float()
            total += float(
                torch.nn.functional.cross_entropy(logits, tokens[0, 1:], ignore_index=NOT_LEARNT, reduction="sum")
            )
    finally:
        base.set_attn_implementation(NAME)
    return total
