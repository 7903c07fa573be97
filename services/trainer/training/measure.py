"""What is measured of tokens besides the loss: how many of the learnt ones the model would have chosen itself."""

from typing import Any, NamedTuple

import torch
from datasets import Dataset

_NOT_LEARNT = -100


class Accuracy:
    """Share of supervised tokens whose likeliest token is the right one, since it was last taken."""

    def __init__(self) -> None:
        """Nothing was counted yet."""
        self._right = self._tokens = 0

    def add(self, logits: torch.Tensor, labels: torch.Tensor) -> None:
        """Count a pass.

        Args:
            logits: rows x N x vocabulary, before the labels are shifted.
            labels: rows x N, -100 where nothing is learnt.
        """
        targets = labels[:, 1:]
        learnt = targets != _NOT_LEARNT
        self._right += int(((logits[:, :-1].argmax(dim=-1) == targets) & learnt).sum())
        self._tokens += int(learnt.sum())

    def take(self) -> float | None:
        """The share, 0 to 1, and begin anew; None where nothing was supervised."""
        share = self._right / self._tokens if self._tokens else None
        self._right = self._tokens = 0
        return share


class Holdout(NamedTuple):
    """A model on the held-out rows: mean loss in nats per supervised token, and ``Accuracy``."""

    loss: float
    accuracy: float | None


def measure_holdout(trainer: Any, rows: Dataset) -> Holdout:
    """Measure the trainer's model on ``rows``; batches are weighted by their tokens."""
    model, collate = trainer.model, trainer.data_collator
    was_training = model.training
    model.eval()
    accuracy, total, tokens = Accuracy(), 0.0, 0
    size = trainer.args.per_device_eval_batch_size
    with torch.no_grad():
        for start in range(0, len(rows), size):
            batch = {
                key: value.to(model.device)
                for key, value in collate([rows[index] for index in range(start, min(start + size, len(rows)))]).items()
            }
            labels = batch.pop("labels")
            logits = model(**batch).logits.float()
            targets = labels[:, 1:]
            total += float(
                torch.nn.functional.cross_entropy(
                    logits[:, :-1].flatten(0, 1), targets.flatten(), ignore_index=_NOT_LEARNT, reduction="sum"
                )
            )
            tokens += int((targets != _NOT_LEARNT).sum())
            accuracy.add(logits, labels)
    model.train(was_training)
    return Holdout(total / max(tokens, 1), accuracy.take())
