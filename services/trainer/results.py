"""What a run measured, read from its own record: the result file of its job, with the columns that OpenAI's have."""

import csv
import io
from pathlib import Path

import msgspec

from services.trainer.training.job import Finished, Step

_HEADER = ("step", "train_loss", "train_accuracy", "valid_loss", "valid_mean_token_accuracy")


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """A run's steps, in order, each once; and its end, where it came to one."""

    steps: list[Step]
    finished: Finished | None

    def metrics(self) -> dict[str, float | None]:
        """The last step's figures, and the holdout's, under the names of OpenAI's checkpoints."""
        last = self.steps[-1] if self.steps else None
        return {
            "step": last.step if last else None,
            "train_loss": last.loss if last else None,
            "train_mean_token_accuracy": last.accuracy if last else None,
            "full_valid_loss": self.finished.holdout_loss if self.finished else None,
            "full_valid_mean_token_accuracy": self.finished.holdout_accuracy if self.finished else None,
        }

    def csv(self) -> bytes:
        """A line for each step; the holdout's figures are on the last."""
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(_HEADER)
        for place, step in enumerate(self.steps, start=1):
            end = self.finished if place == len(self.steps) else None
            holdout = (end.holdout_loss, end.holdout_accuracy) if end else (None, None)
            writer.writerow((step.step, step.loss, step.accuracy, *holdout))
        return text.getvalue().encode()


def read_measured(events: Path) -> Measured:
    """Read a run's ``events.jsonl``; a step that was done again counts once, a line cut short by a kill not at all.

    Where somebody deleted it, nothing was measured.

    Raises:
        OSError: it cannot be read.
    """
    if not events.exists():
        return Measured(steps=[], finished=None)
    steps: dict[int, Step] = {}
    finished: Finished | None = None
    for line in events.read_bytes().splitlines():
        try:
            event = msgspec.json.decode(line, type=Step | Finished)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue  # another event, too
        if isinstance(event, Step):
            steps[event.step] = event
        else:
            finished = event
    return Measured(steps=[steps[number] for number in sorted(steps)], finished=finished)
