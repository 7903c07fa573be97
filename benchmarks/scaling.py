"""Cost of training as work grows: tokens/s by number of rows and by their length, as JSON and as a plot beside it.

    python -m benchmarks.scaling --tokenizer FOLDER --out benchmarks/results/scaling.json

On a card, and with the random base, also the share of its bfloat16 matrix rate, as measured here, that useful arithmetic reaches.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.arithmetic import matrix_rate, useful_flops
from benchmarks.bases import add_base_options, base_of
from benchmarks.machine import described, write_result
from benchmarks.plot import Line, lines_svg
from benchmarks.runs import BackendProcess, Request

ROWS = (1_000, 10_000, 100_000)
LENGTHS = (128, 256, 512, 1024, 2048)
TOKENS = 32_768  # of a long update


def main() -> int:
    """Measure each size, write figures and plot as they come."""
    options = _parser().parse_args()
    result: dict[str, Any] = described("scaling") | {
        "matrix_tflops": matrix_rate(),
        "by_rows": [],
        "by_length": [],
        "long_updates": [],
    }
    with tempfile.TemporaryDirectory() as scratch:
        base = base_of(options, Path(scratch))
        with BackendProcess("packed") as process:
            for rows in options.rows:
                run = process.run(Request(base=str(base), dataset_rows=rows, steps=options.steps))
                _keep(options.out, result, "by_rows", {"rows": rows}, run)
            for length in options.lengths:
                alike = {"base": str(base), "mean_length": length, "spread": 0}
                run = process.run(Request(**alike, dataset_rows=480, steps=options.steps))
                _keep(options.out, result, "by_length", {"length": length}, run)
                per_update = max(1, TOKENS // length)
                run = process.run(
                    Request(**alike, dataset_rows=4 * per_update, steps=24, learnt_share=1.0, rows_per_step=per_update)
                )
                size: dict[str, Any] = {"length": length}
                if options.base is None and result["matrix_tflops"]:  # the arithmetic is known of this shape only
                    rate = useful_flops(length, length - 1) / length * run["tokens_per_second"] / 1e12
                    size |= {"tflops": rate, "share": rate / result["matrix_tflops"]}
                _keep(options.out, result, "long_updates", size, run)
    return 0


def _keep(out: Path, result: dict[str, Any], where: str, size: dict[str, Any], run: dict[str, Any]) -> None:
    kept = {
        key: run[key] for key in ("tokens_per_second", "milliseconds_per_step", "tokens", "seconds", "loading_seconds")
    }
    result[where].append(size | kept | {"grad_norm": run["grad_norms"][-1]})
    print(where, json.dumps(result[where][-1]), flush=True)
    write_result(out, result)
    out.with_suffix(".svg").write_text(plot(result))


def plot(result: dict[str, Any]) -> str:
    """Speed by number of rows and by length of rows."""

    def line(name: str, where: str, size: str) -> Line:
        return Line(name, [(each[size], each["tokens_per_second"]) for each in result[where]])

    return lines_svg(
        f"Training speed, {result['machine']['card'] or 'CPU'}",
        "tokens per second",
        {
            "rows in all (8 of about 175 tokens an update)": [line("", "by_rows", "rows")],
            "tokens a row": [
                line("8 rows an update", "by_length", "length"),
                line(f"{TOKENS:,} tokens an update", "long_updates", "length"),
            ],
        },
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scaling", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    add_base_options(parser)
    parser.add_argument("--rows", type=int, nargs="+", default=list(ROWS))
    parser.add_argument("--lengths", type=int, nargs="+", default=list(LENGTHS))
    parser.add_argument("--steps", type=int, default=100)
    return parser


if __name__ == "__main__":
    sys.exit(main())
