"""A retrain's milestones as events of its job: numbers, names and sentences of ours, never rows, prompts or answers."""

import time
from collections.abc import Callable
from typing import Any

import msgspec
import structlog

from services.dataset.personal.report import counted
from services.dataset.report import DataReport
from services.jobs.errors import JobsError
from services.jobs.work import Work
from services.trainer.gate.report import Report
from services.trainer.pace import Pace
from services.trainer.training.job import Checkpoint, Event, Finished, Loading, Step

_METRICS_EVERY_SECONDS = 1.0


class JobJournal:
    """Writes a job's way into the queue; see ``Journal``.

    A database that cannot be written costs the record, not the training. How the job ends is not written here.
    """

    def __init__(self, work: Work, job: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Write to the job called ``job``."""
        self._work = work
        self._job = job
        self._clock = clock
        self._noted = -_METRICS_EVERY_SECONDS
        self._pace = Pace()

    def validated(self, report: DataReport) -> None:
        """See ``Journal``."""
        counts = ("rows", "train", "holdout", "exact_duplicates", "near_duplicates", "too_long", "tokens")
        self._say(
            f"The rows are fit to train on: {report.train} to train, {report.holdout} held out",
            data={name: getattr(report, name) for name in counts},
        )
        if report.personal:
            found = ", ".join(counted(kind) for kind in report.personal)
            self._say(
                f"The rows hold likely personal data: {found}",
                level="warn",
                data={str(kind.kind): kind.count for kind in report.personal},
            )

    def began(self, run: str) -> None:
        """See ``Journal``."""
        self._say(f"Run {run}")

    def trained(self, event: Event) -> None:
        """See ``Journal``."""
        match event:
            case Loading(what=what):
                self._say(f"Loading: {what}")
            case Step():
                self._step(event)
            case Checkpoint(step=step):
                self._say(f"Saved the state after step {step}", data={"step": step})
            case Finished():
                self._say(f"Trained {event.steps} steps", data=_figures(event))
            case _:
                pass  # a training that ends otherwise is settled in the queue, with its own event

    def published(self, version: str) -> None:
        """See ``Journal``."""
        self._write(lambda: self._work.published(self._job, version))
        self._say(f"{version} is published; the gate judges it on the running server", data={"model": version})

    def judged(self, report: Report) -> None:
        """See ``Journal``."""
        verdict = "passed" if report.passed else "refused"
        self._say(
            "; ".join([f"The gate {verdict} {report.model}", *report.reasons]),
            level="info" if report.passed else "warn",
            data={
                "passed": report.passed,
                "reasons": report.reasons,
                "rules": msgspec.to_builtins(report.verdict.rules) if report.verdict else [],
                "scores": msgspec.to_builtins(report.scores),
            },
        )

    def promoted(self, version: str, unconfirmed: str | None) -> None:
        """See ``Journal``."""
        if unconfirmed is None:
            self._say(f"{version} is in service")
        else:
            self._say(f"{version} is the version to serve, but was not seen in service: {unconfirmed}", level="warn")

    def _step(self, step: Step) -> None:
        _, left = self._pace.at(step)
        if self._clock() - self._noted < _METRICS_EVERY_SECONDS and step.step != step.of:
            return
        self._noted = self._clock()
        if left is not None:
            finish = time.time() + left
            self._write(lambda: self._work.expect(self._job, finish))
        message = f"Step {step.step}/{step.of}: training loss={step.loss:.4f}"
        data = {"step": step.step, "total_steps": step.of, "learning_rate": step.learning_rate} | measured(step)
        self._write(lambda: self._work.tell(self._job, message, data=data, metrics=True))

    def _say(self, message: str, *, level: Any = "info", data: dict[str, Any] | None = None) -> None:
        self._write(lambda: self._work.tell(self._job, message, level=level, data=data))

    def _write(self, action: Callable[[], object]) -> None:
        try:
            action()
        except JobsError as error:
            structlog.get_logger().warning("an event is missing from the queue", job=self._job, reason=str(error))


def measured(step: Step) -> dict[str, float | None]:
    """A step's figures under OpenAI's names; None where the backend does not count."""
    return {"train_loss": step.loss, "train_mean_token_accuracy": step.accuracy}


def _figures(finished: Finished) -> dict[str, Any]:
    return {
        "train_loss": finished.train_loss,
        "valid_loss": finished.holdout_loss,
        "valid_mean_token_accuracy": finished.holdout_accuracy,
        "trained_tokens": finished.tokens,
    }
