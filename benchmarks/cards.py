"""Training speed on several cards of one host against one, on the same rows, in turns, in one call.

    python -m benchmarks.cards --tokenizer FOLDER --out benchmarks/results/cards.json       Qwen2.5-0.5B's shape, random weights
    python -m benchmarks.cards --base FOLDER --cards 1 2 4 --mean-length 512 --rows-per-step 32 --out ...

Each run is what a retrain starts: the trainer's own worker, with the launcher where there are several. Tokens are counted without padding, and
the first quarter of a run's steps (kernels, recordings) is left out of its speed. Without a card, ``--cards`` are processes.
"""

import argparse
import json
import random
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec
from datasets import Dataset

from benchmarks.bases import random_base
from benchmarks.machine import REPOSITORY, commit, has_card, machine
from services.common.settings import load
from services.trainer.cards import visible_cards
from services.trainer.settings import TrainingSettings
from services.trainer.training.job import Event, Finished, Step, TrainingFailed, TrainingJob
from services.trainer.worker import ProcessWorker, Stop

_LEARNT_SHARE = 0.6


def main() -> int:
    """Run every repeat on each number of cards, print the ratios, write the raw figures."""
    options = _parser().parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        base = options.base.absolute() if options.base else random_base(folder / "base", options.tokenizer)
        Dataset.from_list(_rows(options)).save_to_disk(str(folder / "rows"))
        runs: list[dict[str, Any]] = []
        for repeat in range(options.repeats):
            for cards in options.cards:
                runs.append(_run(_job(options, base, folder, cards, repeat), folder / f"{repeat}-{cards}"))
                print(json.dumps({key: runs[-1][key] for key in _SAID}), flush=True)
                _write(options, runs)
    return 0


_SAID = ("cards", "tokens_per_second", "milliseconds_per_step", "name")


def _write(options: argparse.Namespace, runs: list[dict[str, Any]]) -> None:
    """The result so far: a call that is cut off keeps what it has."""
    speeds = {
        cards: [run["tokens_per_second"] for run in runs if run["cards"] == cards]
        for cards in {run["cards"] for run in runs}
    }
    fewest = min(speeds)
    result = {
        "command": " ".join(["python -m benchmarks.cards", *sys.argv[1:]]),
        "commit": commit(),
        "machine": machine(),
        "cards": {
            cards: {
                "median": statistics.median(found),
                "least": min(found),
                "most": max(found),
                "repeats": len(found),
                "ratio": statistics.median(found) / statistics.median(speeds[fewest]),
                "loss_apart": _apart(runs, fewest, cards),
            }
            for cards, found in sorted(speeds.items())
        },
        "runs": runs,
    }
    print(json.dumps(result["cards"]), flush=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")


def _apart(runs: list[dict[str, Any]], one: int, other: int) -> float:
    """The largest distance between the losses of the same step on two numbers of cards, in nats."""
    losses: dict[int, list[float]] = {run["cards"]: run["losses"] for run in runs}
    first, second = losses[one], losses[other]
    return max(0.0, *(abs(loss - other_loss) for loss, other_loss in zip(first, second, strict=True)))


def _run(job: TrainingJob, folder: Path) -> dict[str, Any]:
    """Train once; what was measured."""
    events: list[Event] = []
    seen = visible_cards if has_card() else lambda: [str(number) for number in range(int(job.cards))]
    job.checkpoints_folder.mkdir(parents=True)
    try:
        finished = ProcessWorker(Stop(), folder / "cache", cards=seen)(job, folder, events.append)
    except TrainingFailed:
        print((folder / "worker.log").read_text(), file=sys.stderr)
        raise
    steps = [event for event in events if isinstance(event, Step)]
    warm, last = steps[max(2, len(steps) // 4)], steps[-1]
    seconds = last.seconds - warm.seconds
    return {
        "cards": job.cards,
        "tokens_per_second": (last.tokens - warm.tokens) / seconds,
        "milliseconds_per_step": 1000 * seconds / (last.step - warm.step),
        "losses": [step.loss for step in steps],
        "grad_norms": [step.grad_norm for step in steps],
        "name": finished.backend if isinstance(finished, Finished) else None,
    }


def _job(options: argparse.Namespace, base: Path, folder: Path, cards: int, repeat: int) -> TrainingJob:
    settings = load("training", TrainingSettings, folder=REPOSITORY / "config")
    own = folder / f"{repeat}-{cards}"
    return TrainingJob(
        base_folder=base,
        train_rows=folder / "rows",
        holdout_rows=None,
        checkpoints_folder=own / "checkpoints",
        adapter_folder=own / "adapter",
        resume_from=None,
        recipe=msgspec.structs.replace(
            settings.recipe, backend="packed", max_steps=options.steps, rows_per_step=options.rows_per_step
        ),
        lora=settings.lora,
        checkpoints=msgspec.structs.replace(settings.checkpoints, every_steps=10_000),
        cards=cards,
    )


def _rows(options: argparse.Namespace) -> list[dict[str, list[int]]]:
    """Rows of which the last part is learnt; every token is drawn from a skewed few, so that there is something to learn."""
    draw = random.Random(1)  # noqa: S311 - no secret
    rows = []
    for _ in range(options.rows_per_step * options.steps):
        length = max(16, min(2048, round(draw.gauss(options.mean_length, options.mean_length / 3))))
        tokens = [1000 + int(draw.paretovariate(0.6)) % 20_000 for _ in range(length)]
        question = round(length * (1 - _LEARNT_SHARE))
        rows.append({"input_ids": tokens, "labels": [-100] * question + tokens[question:]})
    return rows


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cards", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--base", type=Path, help="a base model's folder; Qwen2.5-0.5B's shape with random weights where not given"
    )
    parser.add_argument("--tokenizer", type=Path, help="a folder with a tokenizer, for the random base")
    parser.add_argument("--cards", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rows-per-step", type=int, default=8)
    parser.add_argument("--mean-length", type=int, default=175, help="of a row, in tokens")
    return parser


if __name__ == "__main__":
    sys.exit(main())
