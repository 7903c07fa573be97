"""What is measured of tokens besides the loss: how many of the learnt ones the model would have chosen itself."""

from typing import Any, NamedTuple

import torch
from datasets import Dataset

_NOT_LEARNT = -100


class Holdout(NamedTuple):
    """A model on the held-out rows: mean loss in nats per supervised token, and the share of those that it would have chosen."""

    loss: float
    accuracy: float | None


def measure_holdout(trainer: Any, rows: Dataset) -> Holdout:
    """Measure the trainer's model on ``rows``; batches are weighted by their tokens."""
    model, collate = trainer.model, trainer.data_collator
    was_training = model.training
    model.eval()
    total, right, tokens = 0.0, 0, 0
    size = trainer.args.per_device_eval_batch_size
    with torch.no_grad():
        for start in range(0, len(rows), size):
            batch = {
                key: value.to(model.device)
                for key, value in collate([rows[index] for index in range(start, min(start + size, len(rows)))]).items()
            }
            labels = batch.pop("labels")
            logits = model(**batch).logits[:, :-1].float()
            targets = labels[:, 1:]
            learnt = targets != _NOT_LEARNT
            total += float(
                torch.nn.functional.cross_entropy(
                    logits.flatten(0, 1), targets.flatten(), ignore_index=_NOT_LEARNT, reduction="sum"
                )
            )
            tokens += int(learnt.sum())
            right += int(((logits.argmax(dim=-1) == targets) & learnt).sum())
    model.train(was_training)
    return Holdout(total / max(tokens, 1), right / tokens if tokens else None)
