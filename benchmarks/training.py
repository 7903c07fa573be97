"""Training speed: the tutorial's way under Unsloth against the packed way, on the same rows, in turns, in one call.

    python -m benchmarks.training --out benchmarks/results/training.json            a card, Qwen2.5-0.5B's shape, random weights
    python -m benchmarks.training --base data/models/smollm2-135m-instruct --seeds 1 2 3 ...      real weights: the losses count

Every run is a process of its own, as a retrain's is; its steps are what the worker reports. Tokens are counted without padding, and the first
steps (imports, kernels, recordings) are left out of the speed.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.bases import random_base
from benchmarks.machine import REPOSITORY, commit, environment, machine
from services.common.settings import load
from services.trainer.settings import TrainingSettings
from services.trainer.training.backend import choose_backend
from services.trainer.training.job import Event, Finished, Loading, Step, TrainingJob

BACKENDS = ("unsloth", "packed")


class Recorder:
    """Keeps a run's events, with the time of each."""

    def __init__(self) -> None:
        self.stop_requested = False
        self.steps: list[dict[str, Any]] = []
        self.finished: Finished | None = None
        self.loading_seconds: dict[str, float] = {}
        self._began = time.monotonic()

    def emit(self, event: Event) -> None:
        """See ``Observer``."""
        if isinstance(event, Step):
            self.steps.append({**msgspec.to_builtins(event), "at": time.monotonic() - self._began})
        elif isinstance(event, Finished):
            self.finished = event
        elif isinstance(event, Loading):
            self.loading_seconds[event.what] = event.seconds

    def loading(self, what: str) -> None:
        """See ``Observer``."""
        self.emit(Loading(what=what, seconds=round(time.monotonic() - self._began, 2)))


def main() -> int:
    """Run every repeat of both, print the ratio, write the raw figures."""
    options = _parser().parse_args()
    if options.one:
        _one(json.loads(options.one))
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        base = options.base.absolute() if options.base else random_base(folder / "base", options.tokenizer)
        runs = []
        for repeat in range(options.repeats):
            for backend in options.backends:
                seed = options.seeds[repeat % len(options.seeds)]
                run = {
                    "backend": backend,
                    "seed": seed,
                    "base": str(base),
                    "steps": options.steps[backend != "unsloth"],
                }
                runs.append(_run({**run, "folder": str(folder / f"{repeat}-{backend}"), "rows": options.rows}))
                print(
                    json.dumps(
                        {
                            key: runs[-1][key]
                            for key in ("backend", "seed", "tokens_per_second", "first_loss", "last_loss")
                        }
                    ),
                    flush=True,
                )
                _write(options, runs)
    _write(options, runs)
    return 0


def _write(options: argparse.Namespace, runs: list[dict[str, Any]]) -> None:
    """The result so far: a call that is cut off keeps what it has."""
    result: dict[str, Any] = {
        "command": " ".join(["python -m benchmarks.training", *sys.argv[1:]]),
        "commit": commit(),
        "machine": machine(),
    }
    medians = {}
    for backend in options.backends:
        speeds = [run["tokens_per_second"] for run in runs if run["backend"] == backend]
        if speeds:
            medians[backend] = statistics.median(speeds)
            result[backend] = {
                "median": medians[backend],
                "least": min(speeds),
                "most": max(speeds),
                "repeats": len(speeds),
            }
    if len(medians) == len(BACKENDS):
        result["ratio"] = medians["packed"] / medians["unsloth"]
        print(f"packed / unsloth: {result['ratio']:.1f}x", flush=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({**result, "runs": runs}, indent=1) + "\n")


def _run(asked: dict[str, Any]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.training", "--one", json.dumps(asked), "--out", os.devnull],
        cwd=REPOSITORY,
        env=environment(),
        stdout=subprocess.PIPE,
        check=True,
    )
    run: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return run


def _one(asked: dict[str, Any]) -> None:
    """Train once and print what was measured."""
    # First: Unsloth patches what is imported after it, and writing the rows imports datasets.
    load = choose_backend(msgspec.structs.replace(_settings().recipe, backend=asked["backend"]))
    from datasets import Dataset  # noqa: PLC0415

    settings, folder = _settings(), Path(asked["folder"])
    rows = _rows(settings.recipe.rows_per_step * max(asked["rows"]), seed=1)
    Dataset.from_list(rows).save_to_disk(str(folder / "rows"))
    (folder / "checkpoints").mkdir()
    recorder = Recorder()
    job = TrainingJob(
        base_folder=Path(asked["base"]),
        train_rows=folder / "rows",
        holdout_rows=None,
        checkpoints_folder=folder / "checkpoints",
        adapter_folder=folder / "adapter",
        resume_from=None,
        recipe=msgspec.structs.replace(
            settings.recipe, backend=asked["backend"], max_steps=asked["steps"], seed=asked["seed"]
        ),
        lora=settings.lora,
        checkpoints=msgspec.structs.replace(settings.checkpoints, every_steps=10_000),
        cards=settings.worker.cards,
    )
    load(job.outline, recorder)(job)
    steps, warm = recorder.steps, recorder.steps[max(2, len(recorder.steps) // 4)]
    last = steps[-1]
    print(
        json.dumps(
            {
                **asked,
                "tokens_per_second": (last["tokens"] - warm["tokens"]) / (last["seconds"] - warm["seconds"]),
                "milliseconds_per_step": 1000 * (last["seconds"] - warm["seconds"]) / (last["step"] - warm["step"]),
                "first_loss": steps[0]["loss"],
                "last_loss": last["loss"],
                "losses": [step["loss"] for step in steps],
                "grad_norms": [step["grad_norm"] for step in steps],
                "loading_seconds": recorder.loading_seconds,
                "first_step_at": steps[0]["at"],
                "update_norm": recorder.finished.update_norm if recorder.finished else None,
                "name": recorder.finished.backend if recorder.finished else None,
            }
        )
    )


def _settings() -> TrainingSettings:
    return load("training", TrainingSettings, folder=REPOSITORY / "config")


def _rows(count: int, *, seed: int) -> list[dict[str, list[int]]]:
    """Rows of 175 tokens on average, of which the last 60 % are learnt; every token is drawn from a skewed few, so that there is something to learn."""
    draw = random.Random(seed)  # noqa: S311 - no secret
    rows = []
    for _ in range(count):
        length = max(16, min(1024, round(draw.gauss(175, 60))))
        tokens = [1000 + int(draw.paretovariate(0.6)) % 20_000 for _ in range(length)]
        question = round(length * 0.4)
        rows.append({"input_ids": tokens, "labels": [-100] * question + tokens[question:]})
    return rows


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--base", type=Path, help="a base model's folder; Qwen2.5-0.5B's shape with random weights where not given"
    )
    parser.add_argument("--tokenizer", type=Path, help="a folder with a tokenizer, for the random base")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seeds", type=int, nargs="+", default=[3407])
    parser.add_argument("--steps", type=int, nargs=2, default=[14, 60], metavar=("UNSLOTH", "PACKED"))
    parser.add_argument("--rows", type=int, nargs="+", default=[60], help=argparse.SUPPRESS)
    parser.add_argument("--backends", nargs="+", default=list(BACKENDS), choices=BACKENDS)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
