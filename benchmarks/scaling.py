"""Cost of training as work grows: tokens/s by number of rows and by their length, as JSON and as a plot beside it.

    python -m benchmarks.scaling --tokenizer FOLDER --out benchmarks/results/scaling.json

On a card also the share of its bfloat16 matrix rate, as measured here, that useful arithmetic reaches.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.bases import HEADS, INNER, KEY_HEADS, LAYERS, VOCABULARY, WIDTH, random_base
from benchmarks.machine import commit, machine
from benchmarks.plot import Line, lines_svg
from benchmarks.runs import BackendProcess, Request

ROWS = (1_000, 10_000, 100_000)
LENGTHS = (128, 256, 512, 1024, 2048)
TOKENS = 32_768  # of a long update
_RANK = 16
_KEYS = WIDTH // HEADS * KEY_HEADS
# (in, out) of the seven projections.
_PROJECTIONS = [
    (WIDTH, WIDTH),
    (WIDTH, _KEYS),
    (WIDTH, _KEYS),
    (WIDTH, WIDTH),
    (WIDTH, INNER),
    (WIDTH, INNER),
    (INNER, WIDTH),
]


def useful_flops(length: int, learnt: float) -> float:
    """Arithmetic that an update of LoRA weights needs for one row, nothing counted that is computed twice.

    Each multiplication and addition of a matrix product counts one. A frozen matrix is used in the forward pass and for the
    gradient of its input, a trained one for its own, too. Causal attention sees half of length x length, in two products; their
    backward pass has four.

    Args:
        length: of the row, in tokens.
        learnt: tokens of it whose logits are needed.
    """
    frozen = 4 * sum(into * out for into, out in _PROJECTIONS)
    trained = 6 * sum(_RANK * (into + out) for into, out in _PROJECTIONS)
    attention = 6 * length * WIDTH
    return float(LAYERS * length * (frozen + trained + attention) + 4 * VOCABULARY * WIDTH * learnt)


def main() -> int:
    """Measure each size, write figures and plot as they come."""
    options = _parser().parse_args()
    result: dict[str, Any] = {
        "command": " ".join(["python -m benchmarks.scaling", *sys.argv[1:]]),
        "commit": commit(),
        "machine": machine(),
        "matrix_tflops": _matrix_rate(),
        "by_rows": [],
        "by_length": [],
        "long_updates": [],
    }
    with tempfile.TemporaryDirectory() as scratch:
        base = options.base.absolute() if options.base else random_base(Path(scratch, "base"), options.tokenizer)
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
                rate = useful_flops(length, length - 1) / length * run["tokens_per_second"] / 1e12
                share = rate / result["matrix_tflops"] if result["matrix_tflops"] else None
                _keep(options.out, result, "long_updates", {"length": length, "tflops": rate, "share": share}, run)
    return 0


def _keep(out: Path, result: dict[str, Any], where: str, size: dict[str, Any], run: dict[str, Any]) -> None:
    kept = {
        key: run[key] for key in ("tokens_per_second", "milliseconds_per_step", "tokens", "seconds", "loading_seconds")
    }
    result[where].append(size | kept | {"grad_norm": run["grad_norms"][-1]})
    print(where, json.dumps(result[where][-1]), flush=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")
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


def _matrix_rate() -> float | None:
    """The card's bfloat16 rate in 1e12 operations a second, of square matrices of 8,192; None without a card."""
    import torch  # noqa: PLC0415 - seconds to import

    if not torch.cuda.is_available():
        return None
    size, repeats = 8192, 30
    left, right = (torch.randn(size, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        left @ right
    torch.cuda.synchronize()
    began = time.monotonic()
    for _ in range(repeats):
        left @ right
    torch.cuda.synchronize()
    return float(2 * size**3 * repeats / (time.monotonic() - began) / 1e12)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scaling", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--base", type=Path, help="a base model's folder; random weights where not given")
    parser.add_argument("--tokenizer", type=Path, help="a folder with a tokenizer, for the random base")
    parser.add_argument("--rows", type=int, nargs="+", default=list(ROWS))
    parser.add_argument("--lengths", type=int, nargs="+", default=list(LENGTHS))
    parser.add_argument("--steps", type=int, default=100)
    return parser


if __name__ == "__main__":
    sys.exit(main())
