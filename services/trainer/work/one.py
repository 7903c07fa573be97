"""One job, from the moment it was claimed to the row that says how it ended."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import structlog
from rich.console import Console

from services.base_model.identity import BaseSettings
from services.common.paths import DataPaths
from services.dataset.tokenizer import load_tokenizer
from services.jobs.errors import DatabaseUnusable
from services.jobs.records import Failure, Job
from services.trainer.gate.judge import Judge
from services.trainer.gate.settings import GateSettings
from services.trainer.outcome import Outcome
from services.trainer.probe import Prober
from services.trainer.results import Measured, read_measured
from services.trainer.retrain import Retrain, Task
from services.trainer.rows import Rows
from services.trainer.run import EVENTS_FILE
from services.trainer.work.desk import Desk
from services.trainer.work.journal import JobJournal
from services.trainer.work.settings import gate_settings, settings_of
from services.trainer.work.unfit import account_of, failure_of
from services.trainer.work.watch import watching
from services.trainer.worker import Stop, Worker


class Helpers(NamedTuple):
    """What does a part of the work somewhere else, or may have it done already; see ``Retrain``."""

    worker: Worker
    prober: Prober
    load_tokenizer: Callable[[Path], Any] = load_tokenizer


class JobWork:
    """Trains a claimed job; whatever happens, the queue says how it ended, or that it waits again."""

    def __init__(
        self,
        desk: Desk,
        paths: DataPaths,
        *,
        base: Callable[[], BaseSettings],
        helpers: Helpers,
        judge: Callable[[GateSettings], Judge],
        stop: Stop,
        console: Console,
    ) -> None:
        """Train with ``helpers``, judge with what ``judge`` makes of the job's settings, end early where ``stop`` says so."""
        self._desk, self._paths = desk, paths
        self._base, self._helpers, self._judge = base, helpers, judge
        self._stop, self._console = stop, console

    def __call__(self, job: Job) -> Outcome | None:
        """Work on ``job``.

        Returns:
            how its retrain ended; None where it failed.

        Raises:
            JobsError: the queue cannot be written; the job stays claimed, and the next worker continues it.
        """
        self._stop.forget()
        with watching(lambda: self._desk.work.wish(job.id), self._stop):
            try:
                outcome = self._train(job)
            except DatabaseUnusable:
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, it ends this job and not the worker
                failure = failure_of(error)
                self._desk.work.fail(job.id, failure, outcome=account_of(error, failure))
                return None
        if outcome.passed is None and self._stop.requested:
            self._desk.work.stop(job.id)
        else:
            self._settle(job, outcome)
        return outcome

    def _train(self, job: Job) -> Outcome:
        settings, judge = settings_of(job.asked), self._judge(gate_settings(job.asked.overrides))
        retrain = Retrain(
            self._base(),
            self._paths,
            worker=self._helpers.worker,
            prober=self._helpers.prober,
            judge=judge,
            console=self._console,
            load_tokenizer=self._helpers.load_tokenizer,
        )
        unfinished = frozenset(other.id for other in self._desk.queue.unfinished())
        task = Task(job=job.id, settings=settings, rows=self._rows(job), unfinished=unfinished)
        return retrain(task, JobJournal(self._desk.work, job.id))

    def _rows(self, job: Job) -> Rows:
        asked, files = job.asked, self._desk.files
        if asked.training_file is None:
            return Rows(training=self._paths.datasets)
        return Rows(
            training=files.content(asked.training_file),
            validation=files.content(asked.validation_file) if asked.validation_file else None,
        )

    def _settle(self, job: Job, outcome: Outcome) -> None:
        """Write down how a retrain ended that came to its end."""
        measured = read_measured(self._paths.runs / outcome.run / EVENTS_FILE)
        results = self._store(job, measured)
        tokens = measured.finished.tokens if measured.finished else None
        account = msgspec.to_builtins(outcome)
        if outcome.passed and outcome.version is not None:
            self._desk.work.succeed(
                job.id,
                model=outcome.version,
                step=outcome.steps,
                metrics=measured.metrics(),
                result_files=results,
                trained_tokens=tokens,
                outcome=account,
            )
            return
        code = "gate_refused" if outcome.passed is False else "not_judged"
        failure = Failure(code=code, message="; ".join(outcome.reasons))
        self._desk.work.fail(job.id, failure, result_files=results, trained_tokens=tokens, outcome=account)

    def _store(self, job: Job, measured: Measured) -> list[str]:
        """The result file's id; none where the volume is full: the model is worth more."""
        files, content = self._desk.files, self._desk.files.scratch()
        try:
            content.write_bytes(measured.csv())
        except OSError as error:
            structlog.get_logger().warning("the result file cannot be written", job=job.id, reason=error.strerror)
            return []
        owner, name = job.asked.owner, f"{job.id}-results.csv"
        return [files.add(content, filename=name, purpose="fine-tune-results", owner=owner).id]
