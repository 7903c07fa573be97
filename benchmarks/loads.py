"""One load of vLLM's own generator on a server, and what several turns of it say."""

import argparse
import json
import statistics
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.machine import write_result
from benchmarks.servers import RealServer

# Of the client's result: what is told of each load.
FIGURES = ("request_throughput", "output_throughput", "mean_ttft_ms", "p99_ttft_ms", "mean_tpot_ms", "p99_itl_ms")

Runs = list[dict[str, float]]


class Load(NamedTuple):
    """Concurrent streams, tokens in and tokens out of each request."""

    streams: int
    into: int
    out: int

    @classmethod
    def parse(cls, text: str) -> "Load":
        """From ``256x64x32``."""
        return cls(*map(int, text.split("x")))

    @property
    def name(self) -> str:
        """As it is given."""
        return "x".join(map(str, self))

    @property
    def requests(self) -> int:
        """So many that a turn takes seconds, not minutes."""
        return max(8, self.streams * (8 if self.streams > 64 else 12))  # noqa: PLR2004 - a busy server's are short


LOADS = [Load(256, 64, 32), Load(16, 64, 128), Load(1, 64, 128)]


class Asked(NamedTuple):
    """What one side of a comparison is: a server, and the model that it is asked for."""

    name: str
    server: RealServer
    model: str

    def run(self, load: Load, options: argparse.Namespace, out: Path, *, seed: int) -> dict[str, float]:
        """One load on it, streamed chat.

        Args:
            load: which.
            options: ``base``, the folder of the tokenizer, and ``client``, the generator.
            out: where the generator may write.
            seed: of the prompts.

        Raises:
            RuntimeError: a request was not answered.
        """
        words = ["--backend", "openai-chat", "--endpoint", "/v1/chat/completions", "--base-url", self.server.url]
        words += ["--model", self.model, "--tokenizer", str(options.base)]
        words += ["--header", f"Authorization=Bearer {self.server.key}", "--dataset-name", "random"]
        words += ["--random-input-len", str(load.into), "--random-output-len", str(load.out)]
        words += ["--ignore-eos", "--temperature", "0", "--max-concurrency", str(load.streams), "--seed", str(seed)]
        words += ["--num-prompts", str(load.requests), "--disable-tqdm", "--no-steady-state", "--save-result"]
        words += ["--result-dir", str(out.parent), "--result-filename", out.name]
        out.unlink(missing_ok=True)
        before = self.server.cpu_seconds()
        ran = subprocess.run([options.client, "bench", "serve", *words], capture_output=True, text=True, check=False)
        if ran.returncode != 0 or not out.exists():
            raise RuntimeError(f"the client failed on {self.name}: {ran.stdout[-2000:]} {ran.stderr[-2000:]}")
        found = json.loads(out.read_text())
        if found["completed"] != load.requests:
            raise RuntimeError(f"{self.name} answered {found['completed']} of {load.requests} requests")
        used = self.server.cpu_seconds()
        cpu = {f"{name}_cpu_seconds": round(used[name] - before[name], 2) for name in used}
        return {name: round(found[name], 3) for name in FIGURES} | {"seconds": round(found["duration"], 3)} | cpu


def by_turns(
    sides: list[Asked],
    options: argparse.Namespace,
    pairs: list[tuple[str, str]],
    result: dict[str, Any],
    *,
    scratch: Path,
    watched: Callable[[Asked], AbstractContextManager[None]],
) -> None:
    """Each load on each side by turns; ``result`` is written as it grows.

    Args:
        sides: in the order in which they are asked.
        options: of ``add_load_options``.
        pairs: see ``compared``.
        result: gets the loads.
        scratch: where the generator may write.
        watched: what a side's answers are looked at with while it warms up.
    """
    runs: dict[str, dict[str, Runs]] = {}
    for turn in range(-1, options.turns):  # the first one warms up and is not counted
        for load in options.loads:
            for side in sides:
                with watched(side) if turn < 0 else nullcontext():
                    run = side.run(load, options, scratch / "bench.json", seed=turn + 1)
                print(load.name, turn, side.name, json.dumps(run), flush=True)
                if turn >= 0:
                    runs.setdefault(load.name, {}).setdefault(side.name, []).append(run)
        result["loads"] = {name: compared(by_side, pairs) for name, by_side in runs.items()}
        write_result(options.out, result)


def compared(by_side: dict[str, Runs], pairs: list[tuple[str, str]]) -> dict[str, Any]:
    """Medians and spread of each side, and of each pair the first one's medians by the second one's."""
    medians = {
        side: {figure: statistics.median(run[figure] for run in runs) for figure in FIGURES}
        for side, runs in by_side.items()
    }
    spread = {
        side: [min(run["request_throughput"] for run in runs), max(run["request_throughput"] for run in runs)]
        for side, runs in by_side.items()
    }
    ratios = {
        f"{ours} / {theirs}": {
            figure: round(medians[ours][figure] / medians[theirs][figure], 3)
            for figure in FIGURES
            if medians[theirs][figure]
        }
        for ours, theirs in pairs
    }
    return {"medians": medians, "requests_per_second_spread": spread, "ratios": ratios, "runs": by_side}


def add_load_options(parser: argparse.ArgumentParser) -> None:
    """What every comparison of servers takes."""
    parser.add_argument("--base", type=Path, required=True, help="a base model's folder")
    parser.add_argument("--client", required=True, help="vLLM's load generator: vllm-rs, which its CUDA package brings")
    parser.add_argument("--loads", type=Load.parse, nargs="+", default=LOADS, metavar="STREAMSxINxOUT")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--cpu", action="store_true", help="on vLLM's CPU build")
    parser.add_argument("--logs", type=Path, help="a folder that the servers' logs are copied to")
    parser.add_argument("--out", type=Path, required=True)
