"""Training speed and losses: a well-known way against the packed way, on the same rows, in turns, in one call.

On a card, against the tutorial's way under Unsloth; Qwen2.5-0.5B's shape with random weights, then real weights, whose losses count:

    python -m benchmarks.training --tokenizer FOLDER --out benchmarks/results/training.json
    python -m benchmarks.training --base data/models/smollm2-135m-instruct --datasets examples/norudam/datasets --seeds 1 2 3 --out ...

On a CPU, against the plain loop of transformers and PEFT: the same with ``--baseline plain``.
Tokens are counted without padding, and the first quarter of a run's steps (kernels, recordings) is left out of its speed.
"""

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.bases import add_base_options, base_of
from benchmarks.machine import described, write_result
from benchmarks.runs import BackendProcess, Request

OURS = "packed"


def main() -> int:
    """Run every repeat of both, print the ratio, write the raw figures."""
    options = _parser().parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        base = base_of(options, Path(scratch))
        runs: list[dict[str, Any]] = []
        with BackendProcess(options.baseline) as theirs, BackendProcess(OURS) as ours:
            for repeat in range(options.repeats):
                for process, steps in zip((theirs, ours), options.steps, strict=True):
                    request = Request(
                        base=str(base),
                        seed=options.seeds[repeat % len(options.seeds)],
                        steps=steps,
                        datasets=str(options.datasets.absolute()) if options.datasets else None,
                    )
                    runs.append(process.run(request) | {"base": base.name})
                    last = runs[-1]
                    print(
                        f"{last['backend']}, seed {last['seed']}: {last['tokens_per_second']:,.0f} tokens/s, "
                        f"{last['milliseconds_per_step']:.1f} ms a step, loss {last['losses'][0]:.4f} to {last['losses'][-1]:.4f}",
                        flush=True,
                    )
                    _write(options.out, runs, options.baseline)
    return 0


def _write(out: Path, runs: list[dict[str, Any]], baseline: str) -> None:
    result = described("training")
    for backend in (baseline, OURS):
        speeds = [run["tokens_per_second"] for run in runs if run["backend"] == backend]
        if speeds:
            result[backend] = {
                "tokens_per_second": statistics.median(speeds),
                "least": min(speeds),
                "most": max(speeds),
                "repeats": len(speeds),
            }
    if OURS in result:
        result["ratio"] = result[OURS]["tokens_per_second"] / result[baseline]["tokens_per_second"]
        print(f"{OURS} / {baseline}: {result['ratio']:.1f}x", flush=True)
        if len({run["steps"] for run in runs}) == 1:  # else the learning rates differ
            result["losses"] = compare_losses(runs, baseline)
            print(f"losses: {json.dumps(result['losses'])}", flush=True)
    write_result(out, {**result, "runs": runs})


def compare_losses(runs: list[dict[str, Any]], baseline: str) -> dict[str, float]:
    """How far the two are apart, beside how far seeds are; in nats, step by step.

    Returns:
        ``apart``: mean over steps and seeds of the distance between the two backends at the same seed.
        ``seeds_apart``: mean over steps of the distance between the highest and the lowest seed of the baseline.
        Holdout losses where rows were held out: the mean of each backend.
    """
    by = {backend: {run["seed"]: run for run in runs if run["backend"] == backend} for backend in (baseline, OURS)}
    seeds = sorted(set(by[baseline]) & set(by[OURS]))
    curves = {backend: [by[backend][seed]["losses"] for seed in seeds] for backend in by}
    pairs = [
        abs(theirs - ours)
        for curve, other in zip(curves[baseline], curves[OURS], strict=True)
        for theirs, ours in zip(curve, other, strict=True)
    ]
    result = {
        "apart": statistics.mean(pairs),
        "seeds_apart": statistics.mean(max(each) - min(each) for each in zip(*curves[baseline], strict=True)),
        "seeds": float(len(seeds)),
    }
    for backend in by:
        held = [by[backend][seed]["holdout_loss"] for seed in seeds]
        if None not in held:
            result[f"holdout_{backend}"] = statistics.mean(held)
    return result


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    add_base_options(parser)
    parser.add_argument("--datasets", type=Path, help="a folder of real rows; invented ones where not given")
    parser.add_argument("--baseline", default="unsloth", choices=["unsloth", "plain"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seeds", type=int, nargs="+", default=[3407])
    parser.add_argument("--steps", type=int, nargs=2, default=[14, 120], metavar=("BASELINE", "PACKED"))
    return parser


if __name__ == "__main__":
    sys.exit(main())
