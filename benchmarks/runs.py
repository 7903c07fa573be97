"""Training runs to be measured, each backend's in one process that lives as long as the benchmark: imports are paid once.

python -m benchmarks.runs BACKEND          reads one request a line, writes one result a line; started by ``BackendProcess``
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import msgspec
import numpy as np

from benchmarks.machine import REPOSITORY, environment
from services.common.settings import load
from services.dataset.prepare import prepare
from services.dataset.rows import Example
from services.dataset.sources import take_snapshot
from services.trainer.settings import TrainingSettings
from services.trainer.training.backend import Backend, choose_backend
from services.trainer.training.job import Event, Finished, Loading, Step, TrainingJob
from services.trainer.training.meeting import Meeting
from services.trainer.training.place import take_place


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One run.

    Attributes:
        base: the base model's folder.
        seed: of adapter and order.
        steps: updates; the first quarter is not counted into the speed.
        dataset_rows: how many invented rows there are to choose from.
        mean_length: of an invented row, in tokens.
        spread: standard deviation of its length; 0 makes all alike.
        learnt_share: of a row's tokens.
        rows_per_step: of an update.
        datasets: a folder of real rows in place of invented ones; some are held out and measured.
    """

    base: str
    seed: int = 3407
    steps: int = 60
    dataset_rows: int = 480
    mean_length: int = 175
    spread: int = 60
    learnt_share: float = 0.6
    rows_per_step: int = 8
    datasets: str | None = None


class Recorder:
    """Keeps a run's events, with the time of each."""

    def __init__(self) -> None:
        self.stop_requested = False
        self.steps: list[Step] = []
        self.finished: Finished | None = None
        self.loading_seconds: dict[str, float] = {}
        self._began = time.monotonic()

    def emit(self, event: Event) -> None:
        """See ``Observer``."""
        if isinstance(event, Step):
            self.steps.append(event)
            self.loading_seconds.setdefault("first step done", round(time.monotonic() - self._began, 2))
        elif isinstance(event, Finished):
            self.finished = event
        elif isinstance(event, Loading):
            self.loading_seconds[event.what] = event.seconds

    def loading(self, what: str) -> None:
        """See ``Observer``."""
        self.emit(Loading(what=what, seconds=round(time.monotonic() - self._began, 2)))

    @property
    def measured(self) -> dict[str, Any]:
        """Speed, without the first quarter of the steps, and what the run was like."""
        steps, finished = self.steps, self.finished
        warm, last = steps[max(2, len(steps) // 4)], steps[-1]
        seconds, tokens = last.seconds - warm.seconds, last.tokens - warm.tokens
        return {
            "tokens_per_second": tokens / seconds,
            "milliseconds_per_step": 1000 * seconds / (last.step - warm.step),
            "losses": [step.loss for step in steps],
            "grad_norms": [step.grad_norm for step in steps],
            "holdout_loss": finished.holdout_loss if finished else None,
            "update_norm": finished.update_norm if finished else None,
            "name": finished.backend if finished else None,
            "loading_seconds": self.loading_seconds,
            "step_seconds": [step.seconds for step in steps],
            "tokens": last.tokens,
            "seconds": last.seconds,
        }


class BackendProcess:
    """A process that runs what it is asked to; a context manager.

    Args:
        backend: its name in the recipe.
    """

    def __init__(self, backend: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.runs", backend],
            cwd=REPOSITORY,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()  # the end of its input ends it

    def run(self, request: Request) -> dict[str, Any]:
        """Run one request.

        Raises:
            RuntimeError: it died; its standard error says why.
        """
        assert self._process.stdin is not None  # noqa: S101 - for mypy
        assert self._process.stdout is not None  # noqa: S101
        print(msgspec.json.encode(request).decode(), file=self._process.stdin, flush=True)
        while line := self._process.stdout.readline():
            if line.startswith("{"):
                result: dict[str, Any] = json.loads(line)
                return result
        raise RuntimeError("the process of a backend died")


def main() -> int:
    """Answer requests until there are no more."""
    backend = sys.argv[1]
    take_place(
        Meeting(Path(os.devnull))
    )  # one card, as a worker: transformers would spread the batch over all in sight
    # First: Unsloth patches what is imported after it, and writing the rows imports datasets.
    load_base = _backend(backend)
    for line in sys.stdin:
        request = msgspec.json.decode(line, type=Request)
        with tempfile.TemporaryDirectory() as scratch:
            folder, recorder = Path(scratch), Recorder()
            job = job_of(request, backend, folder)
            load_base(job.outline, recorder)(job)
        print(json.dumps({"backend": backend, **msgspec.to_builtins(request), **recorder.measured}), flush=True)
    return 0


def _backend(name: str) -> Backend:
    if name == "plain":
        from benchmarks.plain import load as load_plainly  # noqa: PLC0415 - it imports what Unsloth would patch

        return load_plainly
    return choose_backend(msgspec.structs.replace(_settings().recipe, backend=name))


def job_of(request: Request, backend: str, folder: Path, *, cards: int = 1) -> TrainingJob:
    """What a worker is to do; its rows are written below ``folder``."""
    from datasets import Dataset  # noqa: PLC0415 - after Unsloth

    settings = _settings()
    if request.datasets is None:
        rows = {"rows": _invented(request)}
    else:
        snapshot = take_snapshot(Path(request.datasets), folder / "snapshot")
        prepared = prepare(snapshot, folder / "snapshot", Path(request.base), settings.data, settings.recipe.max_length)
        rows = {"rows": _columns(prepared.train), "holdout": _columns(prepared.holdout)}
    for name, columns in rows.items():
        Dataset.from_dict(columns).save_to_disk(str(folder / name))
    (folder / "checkpoints").mkdir()
    recipe = msgspec.structs.replace(
        settings.recipe,
        backend="auto" if backend == "plain" else backend,
        max_steps=request.steps,
        seed=request.seed,
        rows_per_step=request.rows_per_step,
    )
    return TrainingJob(
        base_folder=Path(request.base),
        train_rows=folder / "rows",
        holdout_rows=folder / "holdout" if "holdout" in rows else None,
        checkpoints_folder=folder / "checkpoints",
        adapter_folder=folder / "adapter",
        resume_from=None,
        recipe=recipe,
        lora=settings.lora,
        checkpoints=msgspec.structs.replace(settings.checkpoints, every_steps=1_000_000),
        cards=cards,
    )


def _settings() -> TrainingSettings:
    return load("training", TrainingSettings, folder=REPOSITORY / "config")


def _columns(rows: Sequence[Example]) -> dict[str, list[Any]]:
    return {"input_ids": [row.input_ids for row in rows], "labels": [row.labels for row in rows]}


def _invented(request: Request) -> dict[str, list[Any]]:
    """Rows of which the last part is learnt; every token is drawn from a skewed few, so that there is something to learn."""
    draw = np.random.default_rng(1)
    lengths = draw.normal(request.mean_length, request.spread, request.dataset_rows).round().clip(16, 2048).astype(int)
    tokens = 1000 + draw.pareto(0.6, lengths.sum()).clip(max=1e9).astype(np.int64) % 20_000
    rows = np.split(tokens.astype(np.int32), lengths.cumsum()[:-1])
    labels = [np.where(np.arange(len(row)) < len(row) * (1 - request.learnt_share), -100, row) for row in rows]
    return {"input_ids": rows, "labels": labels}


if __name__ == "__main__":
    sys.exit(main())
