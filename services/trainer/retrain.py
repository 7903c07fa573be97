"""``make retrain`` from the first row to the moved pointer; this file is the way of the data."""

import importlib.metadata
import time
from pathlib import Path

import msgspec
from datasets import Dataset, disable_progress_bars
from rich.console import Console

from services.base_model.identity import BaseModel, BaseSettings, read_base_model
from services.common.paths import DataPaths
from services.dataset.prepare import Prepared, prepare
from services.dataset.rows import Example
from services.dataset.sources import snapshot_hash, take_snapshot
from services.dataset.tokenizer import load_tokenizer
from services.registry.layout import Registry, check_adapter_name, model_name
from services.registry.lock import exclusive
from services.registry.manifest import BaseReference, LoraFacts, Manifest
from services.registry.pointer import promote
from services.registry.publish import Lineage, publish, staging
from services.registry.retention import delete_old
from services.registry.rows import ROWS, encode_rows
from services.trainer import run as runs
from services.trainer.adapter_files import collect
from services.trainer.checkpoints import newest_whole
from services.trainer.gate.client import JudgingFailed
from services.trainer.gate.judge import Judge
from services.trainer.probe import Prober, probe_change, record_probe
from services.trainer.progress import RunLog
from services.trainer.settings import TrainingSettings
from services.trainer.training.job import Finished, Interrupted, MachineFailed, TrainingFailed, TrainingJob
from services.trainer.worker import Worker

_KEEP_RUNS = 5
_PACKAGES = ("torch", "transformers", "trl", "peft", "datasets", "unsloth", "unsloth_zoo", "bitsandbytes")


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a retrain ended.

    Attributes:
        version: the new version's model name; None where the run was interrupted.
        passed: the gate's verdict; None where there is none, and then ``reasons`` says why.
        reasons: what the gate has against the version.
        seconds: wall time of each part.
    """

    version: str | None
    run: str
    steps: int
    train_loss: float | None
    holdout_loss: float | None
    passed: bool | None
    reasons: list[str]
    seconds: dict[str, float]


def retrain(
    settings: TrainingSettings,
    base_settings: BaseSettings,
    paths: DataPaths,
    *,
    worker: Worker,
    judge: Judge,
    console: Console,
    prober: Prober = record_probe,
) -> Outcome:
    """Train on the rows as they are now, publish the adapter, judge it, put it in service if it is better.

    One retrain runs at a time; the run of a process that died is continued where nothing has changed since.

    Raises:
        RegistryBusy: another retrain is under way.
        DataRefused: the rows are not fit to train on; nothing was loaded.
        BaseModelError: the base model is not installed.
        TrainingFailed: training yields no adapter; nothing is published.
        MachineFailed: likewise, but the next retrain continues the run.
        OSError: the volume cannot be written; the next retrain continues the run where one had begun.
        RegistryError: the registry cannot be written.
    """
    adapter = check_adapter_name(settings.adapter.name)
    paths.runs.mkdir(parents=True, exist_ok=True)
    with exclusive(paths.runs / ".lock", "retrain"):
        clock = _Clock()
        base = read_base_model(paths.models, base_settings.base_model)
        base_folder = paths.models / base.name
        with runs.fresh_folder(paths.runs) as fresh:
            sources = take_snapshot(paths.datasets, fresh / "snapshot")
            identity = runs.identity_of(settings, snapshot_hash(sources), base)
            prepared = prepare(sources, fresh / "snapshot", base_folder, settings.data, settings.recipe.max_length)
            run, decision = runs.begin(paths.runs, fresh, identity)
        console.print(decision)
        clock.lap("data")
        try:
            ended = _train(settings, run, base_folder, prepared, worker, console)
            clock.lap("training")
            if isinstance(ended, Interrupted):
                run.enter("interrupted", f"at step {ended.step}")
                return _outcome(None, run, ended.step, None, None, [], clock)
            manifest = _publish(settings, base, run, prepared, ended, paths, prober)
            clock.lap("publishing")
        except MachineFailed as error:
            run.enter("interrupted", str(error))
            raise
        except TrainingFailed as error:
            run.enter("failed", str(error))
            raise
        finally:
            runs.prune(paths.runs, _KEEP_RUNS, run)
        version = model_name(adapter, manifest.version)
        run.enter("published", version)
        registry = Registry(paths.registry)
        passed, reasons = _judge(registry, manifest, prepared, base_folder, judge)
        clock.lap("judging")
        for old in _old_deleted(registry, adapter, settings.versions.keep, judge):
            console.print(f"{model_name(adapter, old)} was deleted: versions.keep = {settings.versions.keep}")
        return _outcome(version, run, ended.steps, ended, passed, reasons, clock)


def _train(
    settings: TrainingSettings, run: runs.Run, base_folder: Path, prepared: Prepared, worker: Worker, console: Console
) -> Finished | Interrupted:
    resume_from = newest_whole(run.checkpoints)
    if resume_from is not None:
        console.print(f"continuing from {resume_from.name}")
    job = TrainingJob(
        base_folder=base_folder,
        train_rows=_save_rows(prepared.train, run.folder / "rows"),
        holdout_rows=_save_rows(prepared.holdout, run.folder / "holdout") if prepared.holdout else None,
        checkpoints_folder=run.checkpoints,
        adapter_folder=run.adapter,
        resume_from=resume_from,
        recipe=settings.recipe,
        lora=settings.lora,
        checkpoints=settings.checkpoints,
    )
    log = RunLog(run.events, run.loss_curve, title=f"{settings.adapter.name}, run {run.record.run_id}", console=console)
    try:
        return worker(job, run.folder, log)
    finally:
        log.close()


def _save_rows(examples: list[Example], folder: Path) -> Path:
    columns = {name: [getattr(example, name) for example in examples] for name in ("input_ids", "labels")}
    disable_progress_bars()  # writing takes a moment; the bar that counts is the training's
    Dataset.from_dict(columns).save_to_disk(str(folder))
    return folder


def _publish(
    settings: TrainingSettings,
    base: BaseModel,
    run: runs.Run,
    prepared: Prepared,
    finished: Finished,
    paths: DataPaths,
    prober: Prober,
) -> Manifest:
    registry, adapter = Registry(paths.registry), settings.adapter.name
    base_folder = paths.models / base.name
    with staging(registry, adapter) as staged:
        collect(run.adapter, staged, base_name=base.name, lora=settings.lora, loss_curve=run.loss_curve)
        (staged / ROWS).write_bytes(encode_rows(prepared.fates))
        probe = prober(base_folder, staged, load_tokenizer(base_folder), run.folder, paths.cache / "trainer")
        lineage = Lineage(
            base=BaseReference(
                name=base.name, fingerprint=base.fingerprint, chat_template_sha256=base.chat_template_sha256
            ),
            lora=LoraFacts(
                rank=settings.lora.rank, alpha=settings.lora.alpha, target_modules=sorted(settings.lora.target_modules)
            ),
            probe=probe,
            dataset=msgspec.to_builtins(prepared.report),
            recipe=msgspec.to_builtins(settings),
            packages=_package_versions(),
            metrics={
                **{key: value for key, value in msgspec.to_builtins(finished).items() if key != "type"},
                "train_rows": len(prepared.train),
                "holdout_rows": len(prepared.holdout),
                "probe_change": probe_change(probe),
            },
        )
        return publish(registry, adapter, staged, lineage)


def _judge(
    registry: Registry, manifest: Manifest, prepared: Prepared, base_folder: Path, judge: Judge
) -> tuple[bool | None, list[str]]:
    """Promote a version that the gate finds better; it stays a candidate otherwise, and without a verdict."""
    try:
        report = judge(registry, manifest.adapter, manifest.version, prepared, load_tokenizer(base_folder))
    except JudgingFailed as error:
        return None, [str(error)]
    if report.passed:
        promote(registry, manifest.adapter, manifest.version, how="gate")
    return report.passed, report.reasons


def _old_deleted(registry: Registry, adapter: str, keep: int, judge: Judge) -> list[int]:
    """Delete old versions, if a server tells which of them it holds; without one nothing goes."""
    try:
        in_use = judge.loaded(adapter)
    except JudgingFailed:
        return []
    return delete_old(registry, adapter, keep=keep, in_use=in_use)


def _package_versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # the other backend's package
    return found


def _outcome(
    version: str | None,
    run: runs.Run,
    steps: int,
    finished: Finished | None,
    passed: bool | None,  # noqa: FBT001 - not a switch: the verdict
    reasons: list[str],
    clock: "_Clock",
) -> Outcome:
    return Outcome(
        version=version,
        run=run.record.run_id,
        steps=steps,
        train_loss=finished.train_loss if finished else None,
        holdout_loss=finished.holdout_loss if finished else None,
        passed=passed,
        reasons=reasons,
        seconds=clock.laps,
    )


class _Clock:
    """Wall time of the parts of a retrain."""

    def __init__(self) -> None:
        self._last = time.monotonic()
        self.laps: dict[str, float] = {}

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.laps[name] = round(now - self._last, 2)
        self._last = now
