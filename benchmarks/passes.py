"""One packed pass, forward and backward: milliseconds and kernels, with the base's own layers and with those of fewer kernels.

python -m benchmarks.passes --tokenizer FOLDER --out benchmarks/results/passes.json
python -m benchmarks.passes --base FOLDER --shapes 2x32 --repeats 2 --out ...        a rehearsal on a CPU, where nothing is recorded
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch.profiler import ProfilerActivity, profile
from transformers import AutoModelForCausalLM

from benchmarks.arithmetic import matrix_rate, useful_flops
from benchmarks.bases import add_base_options, base_of
from benchmarks.machine import REPOSITORY, described, write_result
from services.common.settings import load
from services.trainer.settings import TrainingSettings
from services.trainer.training.packed import attention
from services.trainer.training.packed.batch import Pass, join
from services.trainer.training.packed.flat import FlatWeights
from services.trainer.training.packed.layers import join_layers
from services.trainer.training.packed.lora import join_kernels
from services.trainer.training.packed.step import PassRunner, Replayer

_ON_CARD = torch.cuda.is_available()
_DEVICE = torch.device("cuda" if _ON_CARD else "cpu")
_PRECISION = torch.bfloat16 if _ON_CARD else torch.float32


def main() -> int:
    """Measure each shape with both kinds of layers, write the raw figures as they come."""
    options = _parser().parse_args()
    result: dict[str, Any] = described("passes") | {"matrix_tflops": matrix_rate(), "passes": []}
    with tempfile.TemporaryDirectory() as scratch:
        base = base_of(options, Path(scratch))
        for layers in ("own", "fewer kernels"):  # in this order: the rotation is replaced for the whole process
            for shape in options.shapes:
                measured = {"rows": shape[0], "length": shape[1], "layers": layers}
                measured |= _measured(base, _pass(*shape), options.repeats, fewer=layers != "own")
                if options.base is None and result["matrix_tflops"]:  # the arithmetic is known of this shape only
                    tflops = shape[0] * useful_flops(shape[1], shape[1] - 1) / measured["milliseconds"] / 1e9
                    measured |= {"tflops": tflops, "share": tflops / result["matrix_tflops"]}
                result["passes"].append(measured)
                print(json.dumps(measured), flush=True)
                write_result(options.out, result)
    return 0


def _pass(rows: int, length: int) -> Pass:
    """Rows of which every token but the first is learnt."""
    tokens = torch.randint(0, 20_000, (rows, length), generator=torch.Generator().manual_seed(0)).tolist()
    rows_of_tokens = [{"input_ids": row, "labels": row} for row in tokens]
    return join(rows_of_tokens, 256 if _ON_CARD else 1, room=rows).to(_DEVICE)


def _measured(base: Path, one: Pass, repeats: int, *, fewer: bool) -> dict[str, Any]:
    lora = load("training", TrainingSettings, folder=REPOSITORY / "config").lora
    model = AutoModelForCausalLM.from_pretrained(base, dtype=_PRECISION, attn_implementation=attention.NAME).to(_DEVICE)
    adapter = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=list(lora.target_modules))
    torch.manual_seed(0)
    model = get_peft_model(model, adapter).train()
    flat = FlatWeights(model, _PRECISION)
    if fewer:
        join_layers(model)
        join_kernels(model, flat)
    runner = PassRunner(model, flat, _PRECISION)
    run = Replayer(runner) if _ON_CARD else runner
    scale = torch.tensor(1.0 / one.learnt, device=_DEVICE)
    loss = float(run(one, scale).loss)
    norm = float(flat.gradient.norm())
    milliseconds = _timed(lambda: run(one, scale), repeats)
    kernels = None
    if _ON_CARD:
        with profile(activities=[ProfilerActivity.CUDA]) as seen:
            run(one, scale)
            torch.cuda.synchronize()
        kernels = sum(event.count for event in seen.key_averages())
    return {"loss": loss, "grad_norm": norm, "milliseconds": milliseconds, "kernels": kernels}


def _timed(work: Callable[[], Any], repeats: int) -> float:
    """Milliseconds of one of ``repeats`` in a row."""
    work()
    if _ON_CARD:
        torch.cuda.synchronize()
    began = time.monotonic()
    for _ in range(repeats):
        work()
    if _ON_CARD:
        torch.cuda.synchronize()
    return 1000 * (time.monotonic() - began) / repeats


def _shape(text: str) -> tuple[int, int]:
    rows, length = text.split("x")
    return int(rows), int(length)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.passes", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    add_base_options(parser)
    parser.add_argument(
        "--shapes", type=_shape, nargs="+", default=[(8, 175), (32, 512), (8, 2048)], metavar="ROWSxLENGTH"
    )
    parser.add_argument("--repeats", type=int, default=20)
    return parser


if __name__ == "__main__":
    sys.exit(main())
