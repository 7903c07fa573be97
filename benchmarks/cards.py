"""Training speed on several cards of one host against one, on the same rows, in turns, in one call.

    python -m benchmarks.cards --tokenizer FOLDER --out benchmarks/results/cards.json       Qwen2.5-0.5B's shape, random weights
    python -m benchmarks.cards --base FOLDER --cards 1 2 4 --mean-length 512 --rows-per-step 32 --out ...

Each run is what a retrain starts: the trainer's own worker, with the launcher where there are several. Tokens are counted without padding, and
the first quarter of a run's steps (kernels, recordings) is left out of its speed. Without a card, ``--cards`` are processes.
"""

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.bases import add_base_options, base_of
from benchmarks.machine import described, has_card, write_result
from benchmarks.runs import Recorder, Request, job_of
from services.trainer.cards import visible_cards
from services.trainer.training.job import TrainingFailed
from services.trainer.worker import ProcessWorker, Stop


def main() -> int:
    """Run every repeat on each number of cards, print the ratios, write the raw figures."""
    options = _parser().parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        request = Request(
            base=str(base_of(options, Path(scratch))),
            steps=options.steps,
            dataset_rows=options.rows_per_step * options.steps,
            mean_length=options.mean_length,
            spread=options.mean_length // 3,
            rows_per_step=options.rows_per_step,
        )
        runs: list[dict[str, Any]] = []
        for repeat in range(options.repeats):
            for cards in options.cards:
                folder = Path(scratch, f"{repeat}-{cards}")
                folder.mkdir()
                runs.append(_run(request, cards, folder))
                print(json.dumps({key: runs[-1][key] for key in _SAID}), flush=True)
                _write(options.out, runs)
    return 0


_SAID = ("cards", "tokens_per_second", "milliseconds_per_step", "name")


def _write(out: Path, runs: list[dict[str, Any]]) -> None:
    speeds = {
        cards: [run["tokens_per_second"] for run in runs if run["cards"] == cards]
        for cards in {run["cards"] for run in runs}
    }
    fewest = min(speeds)
    result = described("cards") | {
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
    write_result(out, result)


def _apart(runs: list[dict[str, Any]], one: int, other: int) -> float:
    """The largest distance between the losses of the same step on two numbers of cards, in nats."""
    losses: dict[int, list[float]] = {run["cards"]: run["losses"] for run in runs}
    first, second = losses[one], losses[other]
    return max(0.0, *(abs(loss - other_loss) for loss, other_loss in zip(first, second, strict=True)))


def _run(request: Request, cards: int, folder: Path) -> dict[str, Any]:
    """Train once; what was measured."""
    recorder, job = Recorder(), job_of(request, "packed", folder, cards=cards)
    seen = visible_cards if has_card() else lambda: [str(number) for number in range(cards)]
    try:
        ProcessWorker(Stop(), folder / "cache", cards=seen)(job, folder, recorder.emit)
    except TrainingFailed:
        print((folder / "worker.log").read_text(), file=sys.stderr)
        raise
    return {"cards": cards, **recorder.measured}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cards", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    add_base_options(parser)
    parser.add_argument("--cards", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rows-per-step", type=int, default=8)
    parser.add_argument("--mean-length", type=int, default=175, help="of a row, in tokens")
    return parser


if __name__ == "__main__":
    sys.exit(main())
