"""What a retrain reports of its way, for whoever keeps a record: the queue does. Never rows, prompts or answers."""

from typing import Protocol

from services.dataset.report import DataReport
from services.trainer.gate.report import Report
from services.trainer.training.job import Event


class Journal(Protocol):
    """Takes note of a retrain's milestones, in this order."""

    def validated(self, report: DataReport, /) -> None:
        """The rows are fit to train on."""

    def began(self, run: str, /) -> None:
        """The run that trains them, a new one or one that is continued."""

    def trained(self, event: Event, /) -> None:
        """An event of the training: a step, a checkpoint, what takes time before the first."""

    def published(self, version: str, /) -> None:
        """The adapter is a version, such as ``acme@7``; a candidate until it is judged."""

    def judged(self, report: Report, /) -> None:
        """The gate's verdict."""

    def promoted(self, version: str, unconfirmed: str | None, /) -> None:
        """The pointer leads to the version; ``unconfirmed`` says why the server was not seen to follow."""
