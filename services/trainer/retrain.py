"""One retrain from the first row to the moved pointer; this file is the way of the data."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console

from services.base_model.identity import BaseModel, BaseSettings, read_base_model
from services.common.killpoints import passing
from services.common.paths import DataPaths
from services.dataset.personal.copies import redact_files
from services.dataset.prepare import Prepared, prepare
from services.dataset.sources import snapshot_hash
from services.dataset.tokenizer import load_tokenizer
from services.registry.errors import unwritable
from services.registry.layout import Registry, check_adapter_name, model_name
from services.registry.manifest import Manifest
from services.registry.pointer import promote
from services.registry.publish import publish, require_writable, staging
from services.registry.retention import delete_old
from services.registry.rows import ROWS, encode_rows
from services.trainer import run as runs
from services.trainer.adapter_files import collect
from services.trainer.checkpoints import newest_whole
from services.trainer.gate.client import JudgingFailed
from services.trainer.gate.judge import Judge
from services.trainer.journal import Journal
from services.trainer.lineage import find_published, lineage_of_run
from services.trainer.outcome import Outcome
from services.trainer.parts import RetrainParts
from services.trainer.probe import Prober
from services.trainer.progress import RunLog
from services.trainer.rows import Rows
from services.trainer.settings import TrainingSettings
from services.trainer.tokens import save_examples
from services.trainer.training.job import (
    Event,
    Finished,
    Interrupted,
    MachineFailed,
    Outline,
    Room,
    TrainingFailed,
    TrainingJob,
)
from services.trainer.worker import Worker

_KEEP_RUNS = 5


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """What to train.

    Attributes:
        job: whose run it is; an interrupted one is continued for the same job.
        unfinished: jobs whose runs must stay.
    """

    job: str
    settings: TrainingSettings
    rows: Rows
    unfinished: frozenset[str] = frozenset()


class Retrain:
    """The way of the data, with everything that is the same for every job.

    The caller sees to it that one runs at a time.
    """

    def __init__(
        self,
        base_settings: BaseSettings,
        paths: DataPaths,
        *,
        worker: Worker,
        prober: Prober,
        judge: Judge,
        console: Console,
        load_tokenizer: Callable[[Path], Any] = load_tokenizer,
    ) -> None:
        """Train with ``worker``, probe with ``prober``, judge with ``judge``, say on ``console`` what is decided.

        ``load_tokenizer`` may have the base model's ready.
        """
        self._base_settings = base_settings
        self._paths = paths
        self._registry = Registry(paths.registry)
        self._worker = worker
        self._judge = judge
        self._console = console
        self._prober = prober
        self._load_tokenizer = load_tokenizer

    def __call__(self, task: Task, journal: Journal) -> Outcome:
        """Train on the task's rows, publish the adapter, judge it, put it in service if it is better.

        A run of the same job that did not finish is continued where nothing has changed since, and one that was published before
        it was judged is judged.

        Raises:
            DataRefused: the rows are not fit to train on; no run begins.
            BaseModelError: the base model is not installed.
            TrainingFailed: training yields no adapter; nothing is published.
            MachineFailed: likewise, but the run can be continued.
            OSError: the volume cannot be written; the run can be continued where one had begun.
            RegistryError: the registry cannot be written, or the adapter's name is none.
        """
        require_writable(self._registry, check_adapter_name(task.settings.adapter.name))
        parts = RetrainParts()
        parts.begin("rows")
        base = read_base_model(self._paths.models, self._base_settings.base_model)
        outline = _outline(task.settings, self._paths.models / base.name)
        self._worker.announce(outline)  # it imports while the rows are read
        try:
            return self._way(task, base, outline, journal, parts)
        finally:
            self._prober.dismiss()
            self._worker.dismiss()

    def _way(self, task: Task, base: BaseModel, outline: Outline, journal: Journal, parts: RetrainParts) -> Outcome:
        adapter = task.settings.adapter.name
        run, prepared = self._begin(task, base, journal)
        try:
            published = find_published(self._registry, adapter, run.record.run_id)
            if published is None:
                ended = self._train(task.settings, run, outline, prepared, journal, parts)
                if isinstance(ended, Interrupted):
                    run.enter("interrupted", f"at step {ended.step}")
                    return _interrupted(run, ended, parts)
                published = self._publish(task.settings, base, run, prepared, ended, parts)
        except TrainingFailed as error:
            with suppress(OSError):  # which may be what it ended by; a run that stays "running" is tried once more
                run.enter("interrupted" if isinstance(error, MachineFailed) else "failed", str(error))
            raise
        finally:
            runs.prune(self._paths.runs, _KEEP_RUNS, run, task.unfinished)
        version = model_name(adapter, published.version)
        passing("retrain: published")
        run.enter("published", version)
        journal.published(version)
        parts.begin("judging")
        passed, reasons = self._judged(published, prepared, journal)
        self._delete_old(adapter, task.settings.versions.keep)
        return _outcome(run, published, passed, reasons, parts)

    def _begin(self, task: Task, base: BaseModel, journal: Journal) -> tuple[runs.Run, Prepared]:
        """Copy and check the rows, and find the run that they belong to."""
        settings = task.settings
        with runs.fresh_folder(self._paths.runs) as fresh:
            sources = task.rows.copy(fresh / "snapshot")
            identity = runs.identity_of(settings.shaping(), snapshot_hash(sources), base)
            prepared = prepare(
                sources,
                fresh / "snapshot",
                self._paths.models / base.name,
                settings.data,
                settings.recipe.max_length,
                holdout_file=task.rows.holdout_file,
                load=self._load_tokenizer,
            )
            redact_files(fresh / "snapshot", prepared.report, settings.data.personal)
            journal.validated(prepared.report)
            run, decision = runs.begin(self._paths.runs, fresh, identity, task.job, task.unfinished)
        self._console.print(decision)
        journal.began(run.record.run_id)
        return run, prepared

    def _train(
        self,
        settings: TrainingSettings,
        run: runs.Run,
        outline: Outline,
        prepared: Prepared,
        journal: Journal,
        parts: RetrainParts,
    ) -> Finished | Interrupted:
        parts.begin("handing over")
        self._worker.expect(outline)  # the rows have passed: it loads the base model
        resume_from = newest_whole(run.checkpoints)
        if resume_from is not None:
            self._console.print(f"continuing from {resume_from.name}")
        job = TrainingJob(
            **msgspec.structs.asdict(outline),
            train_rows=save_examples(prepared.train, run.folder / "rows"),
            holdout_rows=save_examples(prepared.holdout, run.folder / "holdout") if prepared.holdout else None,
            checkpoints_folder=run.checkpoints,
            adapter_folder=run.adapter,
            resume_from=resume_from,
            checkpoints=settings.checkpoints,
        )
        title = f"{settings.adapter.name}, run {run.record.run_id}"
        parts.begin("the worker's start")
        self._prober.expect(outline.base_folder)

        def probe_ahead(event: Event) -> None:
            if isinstance(event, Room):
                self._prober.load_ahead(outline.base_folder, prepared.tokenizer, event, settings.lora)

        with RunLog(run.events, run.loss_curve, title=title, console=self._console) as log:
            return self._worker(job, run.folder, _all(parts.take, log, journal.trained, probe_ahead))

    def _publish(
        self,
        settings: TrainingSettings,
        base: BaseModel,
        run: runs.Run,
        prepared: Prepared,
        finished: Finished,
        parts: RetrainParts,
    ) -> Manifest:
        registry, adapter = self._registry, settings.adapter.name
        parts.begin("publishing")
        with staging(registry, adapter) as staged:
            base_folder = self._paths.models / base.name
            try:
                collect(run.adapter, staged, base_folder=base_folder, lora=settings.lora, loss_curve=run.loss_curve)
                (staged / ROWS).write_bytes(encode_rows(prepared.fates))
            except OSError as error:
                raise unwritable(f"{error.filename or registry.root / adapter}: cannot publish", error) from error
            if not self._prober.has_loaded():
                parts.begin("the worker's end")
                self._worker.settle()  # for its memory
            parts.begin("probe")
            probe = self._prober(base_folder, staged, prepared.tokenizer, run.folder)
            parts.begin("the worker's end")
            self._worker.settle()
            parts.begin("publishing")
            lineage = lineage_of_run(run, settings, base, prepared, finished, probe)
            return publish(registry, adapter, staged, lineage)

    def _judged(self, manifest: Manifest, prepared: Prepared, journal: Journal) -> tuple[bool | None, list[str]]:
        """Promote a version that the gate finds better; it stays a candidate otherwise, and without a verdict."""
        adapter, version = manifest.adapter, manifest.version
        try:
            report = self._judge(self._registry, adapter, version, prepared)
        except JudgingFailed as error:
            return None, [str(error)]
        journal.judged(report)
        passing("retrain: judged")
        if report.passed:
            promote(self._registry, adapter, version, how="gate")
            journal.promoted(model_name(adapter, version), self._judge.follows(adapter, version))
        return report.passed, report.reasons

    def _delete_old(self, adapter: str, keep: int) -> None:
        """Delete old versions, if a server tells which of them it holds; without one nothing goes."""
        try:
            in_use = self._judge.loaded(adapter)
        except JudgingFailed:
            return
        for old in delete_old(self._registry, adapter, keep=keep, in_use=in_use):
            self._console.print(f"{model_name(adapter, old)} was deleted: versions.keep = {keep}")


def _outline(settings: TrainingSettings, base_folder: Path) -> Outline:
    return Outline(base_folder=base_folder, recipe=settings.recipe, lora=settings.lora, cards=settings.worker.cards)


def _all(*takers: Callable[[Event], None]) -> Callable[[Event], None]:
    def tell(event: Event) -> None:
        for take in takers:
            take(event)

    return tell


def _interrupted(run: runs.Run, ended: Interrupted, parts: RetrainParts) -> Outcome:
    return Outcome(
        version=None,
        run=run.record.run_id,
        steps=ended.step,
        train_loss=None,
        holdout_loss=None,
        passed=None,
        reasons=[],
        seconds=parts.end(),
    )


def _outcome(
    run: runs.Run,
    published: Manifest,
    passed: bool | None,  # noqa: FBT001 - not a switch: the verdict
    reasons: list[str],
    parts: RetrainParts,
) -> Outcome:
    return Outcome(
        version=model_name(published.adapter, published.version),
        run=run.record.run_id,
        steps=published.metrics["steps"],
        train_loss=published.metrics["train_loss"],
        holdout_loss=published.metrics["holdout_loss"],
        passed=passed,
        reasons=reasons,
        seconds=parts.end(),
    )
