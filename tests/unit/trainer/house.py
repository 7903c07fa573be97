"""A data root with a tiny base model and rows, and a worker that only writes files: retrains without training."""

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console

from services.base_model.identity import BaseModelSettings, BaseSettings
from services.common.paths import DataPaths
from services.common.settings import load
from services.dataset.prepare import Prepared
from services.dataset.report import DataReport
from services.registry.layout import Registry, model_name
from services.trainer.checkpoints import seal
from services.trainer.gate.judge import Judge
from services.trainer.gate.report import Report
from services.trainer.outcome import Outcome
from services.trainer.probe import Prober
from services.trainer.retrain import Retrain, Task
from services.trainer.rows import Rows
from services.trainer.settings import TrainingSettings
from services.trainer.training.job import (
    Checkpoint,
    Event,
    Finished,
    Interrupted,
    MachineFailed,
    Outline,
    Step,
    TrainingJob,
)
from services.trainer.worker import Worker
from tests.support.adapters import base_weights, write_adapter, write_judgement
from tests.support.tokenizers import CHATML, STRICT, byte_tokenizer, save_base
from tests.unit.trainer.prober import FakeProber

CONFIG = Path(__file__).resolve().parents[3] / "config"


class TinyBase:
    """Fills a base model's folder with a tokenizer made in code and one small tensor; ``part`` differs from the usual."""

    def __init__(self, part: str = "") -> None:
        self._part = part

    def fill(self, folder: Path, _settings: BaseModelSettings) -> str:
        """See ``Source``."""
        save_base(folder, STRICT if self._part == "template" else CHATML)
        if self._part == "tokenizer":
            byte_tokenizer(merges=[("a", "b")]).save_pretrained(folder)
        fill = 0.25 if self._part == "weights" else 0.5
        (folder / "model.safetensors").write_bytes(base_weights(fill=fill))
        return "2" if self._part == "revision" else "1"


class FakeWorker:
    """Takes four steps and writes an adapter.

    Args:
        stop_at: the step after which it saves a checkpoint and ends, as after SIGTERM.
        fail: raised there, or before the first step where ``stop_at`` is None.
        before: called before the first step.
        unsettled: raised when its end is waited for.
        width: of the base model that its adapter fits.
    """

    def __init__(
        self,
        *,
        stop_at: int | None = None,
        fail: Exception | None = None,
        before: Callable[[], None] | None = None,
        unsettled: Exception | None = None,
        width: int = 4,
    ) -> None:
        self.jobs: list[TrainingJob] = []
        self.told: list[str] = []
        self.checkpoints_at_start: list[str] = []
        self._stop_at, self._fail, self._before, self._unsettled = stop_at, fail, before, unsettled
        self._width = width

    def announce(self, _outline: Outline) -> None:
        """See ``Worker``."""
        self.told.append("announce")

    def expect(self, _outline: Outline) -> None:
        """See ``Worker``."""
        self.told.append("expect")

    def settle(self) -> None:
        """See ``Worker``."""
        self.told.append("settle")
        if self._unsettled:
            raise self._unsettled

    def dismiss(self) -> None:
        """See ``Worker``."""
        self.told.append("dismiss")

    def __call__(self, job: TrainingJob, _folder: Path, on_event: Callable[[Event], None]) -> Finished | Interrupted:
        """See ``Worker``."""
        self.told.append("job")
        self.jobs.append(job)
        self.checkpoints_at_start = sorted(entry.name for entry in job.checkpoints_folder.iterdir())
        if self._before:
            self._before()
        if self._fail and self._stop_at is None:
            raise self._fail
        first = int(job.resume_from.name.rpartition("-")[2]) + 1 if job.resume_from else 1
        for step in range(first, 5):
            on_event(
                Step(
                    step=step,
                    of=4,
                    loss=1.0 / step,
                    accuracy=step / 4,
                    learning_rate=1e-4,
                    grad_norm=1.0,
                    tokens=100 * step,
                    seconds=float(step),
                )
            )
            checkpoint = job.checkpoints_folder / f"checkpoint-{step}"
            checkpoint.mkdir()
            (checkpoint / "state").write_text(str(step))
            seal(checkpoint)
            on_event(Checkpoint(step=step, folder=checkpoint.name))
            if step == self._stop_at:
                if self._fail:
                    raise self._fail
                return Interrupted(step=step)
        job.adapter_folder.mkdir(exist_ok=True)
        config: Any = {"lora_alpha": job.lora.alpha, "auto_mapping": {"x": "y"}}
        write_adapter(job.adapter_folder, rank=job.lora.rank, width=self._width, **config)
        finished = Finished(
            steps=4,
            train_loss=0.5,
            holdout_loss=0.4,
            holdout_accuracy=0.9,
            update_norm=1.0,
            tokens=400,
            seconds=4.0,
            backend="fake",
        )
        on_event(finished)
        return finished


class FakeJudge:
    """Finds a version better, or has ``reasons`` against it, or reaches no verdict.

    Args:
        reasons: what it has against every version.
        fail: raised instead of a verdict.
    """

    def __init__(self, *reasons: str, fail: Exception | None = None) -> None:
        self._reasons, self._fail = list(reasons), fail
        self.judged: list[tuple[int, Prepared]] = []
        self.in_use: set[int] = set()

    def __call__(self, registry: Registry, adapter: str, version: int, prepared: Prepared) -> Report:
        """See ``Judge``."""
        self.judged.append((version, prepared))
        if self._fail is not None:
            raise self._fail
        write_judgement(registry, version, *self._reasons, adapter=adapter)
        return Report(
            model=model_name(adapter, version),
            manifest_sha256="",
            judged="",
            passed=not self._reasons,
            reasons=self._reasons,
            verdict=None,
            scores=[],
            answers=[],
            settings={},
        )

    def loaded(self, _adapter: str) -> set[int]:
        """See ``Judge``."""
        if self._fail is not None:
            raise self._fail
        return self.in_use

    def follows(self, _adapter: str, _version: int) -> str | None:
        """See ``Judge``."""
        return None


class FakeJournal:
    """Remembers what it was told, in a word each."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def validated(self, report: DataReport) -> None:
        """See ``Journal``."""
        self.told.append(f"validated {report.rows}")

    def began(self, run: str) -> None:
        """See ``Journal``."""
        self.told.append(f"began {run}")

    def trained(self, event: Event) -> None:
        """See ``Journal``."""
        self.told.append(f"{type(event).__name__.lower()} {getattr(event, 'step', '')}".strip())

    def published(self, version: str) -> None:
        """See ``Journal``."""
        self.told.append(f"published {version}")

    def judged(self, report: Report) -> None:
        """See ``Journal``."""
        self.told.append(f"judged {report.passed}")

    def promoted(self, version: str, unconfirmed: str | None) -> None:
        """See ``Journal``."""
        self.told.append(f"promoted {version}" + (f", {unconfirmed}" if unconfirmed else ""))


class House:
    """A data root with a base model and rows, and a way to retrain on them."""

    def __init__(self, root: Path, base: BaseSettings) -> None:
        self.paths, self.base = DataPaths(root), base
        self.registry = Registry(self.paths.registry)
        self.paths.datasets.mkdir(parents=True)
        self.write_rows(20)
        self.journal = FakeJournal()
        self._job = 1

    def write_rows(self, count: int) -> None:
        """Put ``count`` distinct rows in place of those that are there."""
        rows = ({"prompt": f"question {index}", "completion": f"answer {index}"} for index in range(count))
        (self.paths.datasets / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))

    def retrain(
        self,
        worker: Worker,
        overrides: Sequence[str] = (),
        *,
        prober: Prober | None = None,
        judge: Judge | None = None,
        task: Task | None = None,
    ) -> tuple[Outcome, str]:
        """Retrain, for the job before where that has not ended; the outcome, and what was said."""
        console = Console(record=True, width=200, file=io.StringIO())
        retrain = Retrain(
            self.base,
            self.paths,
            worker=worker,
            prober=prober or FakeProber(),
            judge=judge or FakeJudge(),
            console=console,
        )
        try:
            outcome = retrain(task or self.task(overrides), self.journal)
        except MachineFailed:
            raise
        except Exception:
            self._job += 1
            raise
        self._job += outcome.version is not None
        return outcome, console.export_text()

    def task(self, overrides: Sequence[str] = (), **different: Any) -> Task:
        """The job of the operator who retrains on the folder; ``different`` fields of it."""
        settings = load("training", TrainingSettings, ["adapter.name=acme", *overrides], folder=CONFIG)
        task = Task(job=f"ftjob-{self._job}", settings=settings, rows=Rows(training=self.paths.datasets))
        return msgspec.structs.replace(task, **different)

    @property
    def runs(self) -> list[str]:
        """The names of all folders of runs, in order of time."""
        return sorted(entry.name for entry in self.paths.runs.glob("*") if entry.is_dir())
