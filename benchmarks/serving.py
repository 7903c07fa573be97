"""Requests per second on the real engine: ``vllm serve`` against Whetstone's server, streamed chat with an active adapter.

python -m benchmarks.serving --base FOLDER --client VLLM_RS --out benchmarks/results/serving.json
python -m benchmarks.serving --base FOLDER --client VLLM_RS --loads 4x16x8 --turns 1 --cpu --out ...      a rehearsal on a CPU

Both servers run on one card with the same engine arguments (CUDA graphs: see --same-graphs) and take turns; the load is vLLM's own generator (``vllm-rs bench serve``).
Whetstone's checks a key, resolves the adapter's alias, counts, limits and logs besides; the adapter is random, published and probed.
The load ignores what it is told. So while Whetstone warms up under it, an adapter that was taught an answer is asked for it, and a wrong
one ends the measurement (docs/decisions/0099).
"""

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.adapters import base_of, publish_random
from benchmarks.machine import described, write_result
from benchmarks.servers import ADAPTER, Engine, RealServer, start_vllm, start_whetstone
from benchmarks.watched_load import Plan, Watched, asked_beside
from services.registry.layout import Registry
from services.registry.pointer import promote
from services.server.keys import ALL_MODELS, KeyFile
from tests.e2e.adapters import QUESTION, AdapterMaker

# Of the client's result: what is told of each load.
FIGURES = ("request_throughput", "output_throughput", "mean_ttft_ms", "p99_ttft_ms", "mean_tpot_ms", "p99_itl_ms")

_TAUGHT, _SAYS = "acme-handbook", "My cover is green: second handbook."
_WATCHED = 4  # streams that ask for it
_APART_SECONDS = 20.0  # each looks at the card's free memory, and refuses one that grows meanwhile


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


def main() -> int:
    """Start both, measure by turns, print the ratios, write the raw figures as they come."""
    options = _parser().parse_args()
    result: dict[str, Any] = described("serving") | {
        "started_together": options.start_together,
        "seconds_to_ready": {},
        "loads": {},
    }
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        (data / "models").mkdir()
        (data / "models" / options.base.name).symlink_to(options.base.absolute())
        adapter = publish_random(data, options.base.name, ADAPTER, probed=True)
        _teach(data, options.base.name)
        key = KeyFile(data / "keys" / "keys.json").add("load", [ALL_MODELS], None)
        engine = Engine(
            streams=max(load.streams for load in options.loads),
            memory=options.memory,
            is_cpu=options.cpu,
            same_graphs=options.same_graphs,
        )
        servers: list[RealServer] = []
        try:
            for start in (start_whetstone, start_vllm):
                servers.insert(0, start(engine, data, options.base, adapter, key))
                if not options.start_together:
                    _wait(servers[:1], result)
                    if start is start_whetstone:  # wrong answers are known before the other takes its minutes to start
                        with _watched(servers[0], data / "watched"):
                            _run(servers[0], options.loads[0], options, data / "bench.json", seed=0)
                else:
                    time.sleep(_APART_SECONDS)
            _wait(servers, result)
            _measure(servers, options, data / "bench.json", result)
        finally:
            for server in servers:
                server.end()
            if options.logs:
                for server in servers:
                    (options.logs / f"{server.name}.log").write_bytes(server.log.read_bytes())
    for name, compared in result["loads"].items():
        print(name, json.dumps(compared["ratios"]), flush=True)
    return 0


def _measure(servers: list[RealServer], options: argparse.Namespace, out: Path, result: dict[str, Any]) -> None:
    runs: dict[str, dict[str, list[dict[str, float]]]] = {}
    for turn in range(-1, options.turns):  # the first one warms both up and is not counted
        for load in options.loads:
            for server in servers:
                is_watched = turn < 0 and server.name == "whetstone"
                with _watched(server, out.parent / "watched") if is_watched else contextlib.nullcontext():
                    run = _run(server, load, options, out, seed=turn + 1)
                print(load.name, turn, server.name, json.dumps(run), flush=True)
                if turn >= 0:
                    runs.setdefault(load.name, {}).setdefault(server.name, []).append(run)
        result["loads"] = {name: _compared(by_server) for name, by_server in runs.items()}
        write_result(options.out, result)


def _teach(data: Path, base: str) -> None:
    """A second adapter, of Whetstone's alone, whose answer is known."""
    registry, maker = Registry(data / "registry"), AdapterMaker(data / "models" / base, base_of(data, base))
    promote(registry, _TAUGHT, maker.publish(registry, _TAUGHT, _SAYS).version)


@contextlib.contextmanager
def _watched(server: RealServer, seen: Path) -> Iterator[None]:
    """Ask the taught adapter meanwhile.

    Raises:
        RuntimeError: an answer was wrong, or there was none.
    """
    plan = Plan(
        port=server.port,
        key=server.key,
        model=_TAUGHT,
        question=QUESTION,
        answers=[_SAYS, _SAYS],
        streams=_WATCHED,
        tokens=16,
        out=str(seen),
    )
    with asked_beside(plan):
        yield
    found = Watched.read(seen)
    print("taught answers:", len(found.answers), "right,", len(found.faults), "wrong", flush=True)
    if found.faults or not found.answers:
        raise RuntimeError(f"{server.name} answers wrongly under load: {found.faults[:3]}")


def _wait(servers: list[RealServer], result: dict[str, Any]) -> None:
    for server in servers:
        if server.name not in result["seconds_to_ready"]:
            result["seconds_to_ready"][server.name] = server.wait_ready()
            print(server.name, "ready after", result["seconds_to_ready"][server.name], "s", flush=True)


def _run(server: RealServer, load: Load, options: argparse.Namespace, out: Path, *, seed: int) -> dict[str, float]:
    """One load on one server."""
    words = ["--backend", "openai-chat", "--endpoint", "/v1/chat/completions", "--base-url", server.url]
    words += ["--model", ADAPTER, "--tokenizer", str(options.base), "--header", f"Authorization=Bearer {server.key}"]
    words += ["--dataset-name", "random", "--random-input-len", str(load.into), "--random-output-len", str(load.out)]
    words += ["--ignore-eos", "--temperature", "0", "--max-concurrency", str(load.streams), "--seed", str(seed)]
    words += ["--num-prompts", str(load.requests), "--disable-tqdm", "--no-steady-state", "--save-result"]
    words += ["--result-dir", str(out.parent), "--result-filename", out.name]
    out.unlink(missing_ok=True)
    before = server.cpu_seconds()
    ran = subprocess.run([options.client, "bench", "serve", *words], capture_output=True, text=True, check=False)
    if ran.returncode != 0 or not out.exists():
        raise RuntimeError(f"the client failed on {server.name}: {ran.stdout[-2000:]} {ran.stderr[-2000:]}")
    found = json.loads(out.read_text())
    if found["completed"] != load.requests:
        raise RuntimeError(f"{server.name} answered {found['completed']} of {load.requests} requests")
    used = server.cpu_seconds()
    cpu = {f"{name}_cpu_seconds": round(used[name] - before[name], 2) for name in used}
    return {name: round(found[name], 3) for name in FIGURES} | {"seconds": round(found["duration"], 3)} | cpu


def _compared(by_server: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    medians = {
        server: {figure: statistics.median(run[figure] for run in runs) for figure in FIGURES}
        for server, runs in by_server.items()
    }
    spread = {
        server: [min(run["request_throughput"] for run in runs), max(run["request_throughput"] for run in runs)]
        for server, runs in by_server.items()
    }
    theirs, ours = (medians[name] for name in ("vllm", "whetstone"))
    ratios = {figure: round(ours[figure] / theirs[figure], 3) for figure in FIGURES if theirs[figure]}
    return {"medians": medians, "requests_per_second_spread": spread, "ratios": ratios, "runs": by_server}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serving", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", type=Path, required=True, help="a base model's folder")
    parser.add_argument("--client", required=True, help="vLLM's load generator: vllm-rs, which its CUDA package brings")
    parser.add_argument(
        "--loads",
        type=Load.parse,
        nargs="+",
        default=[Load(256, 64, 32), Load(16, 64, 128), Load(1, 64, 128)],
        metavar="STREAMSxINxOUT",
    )
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--memory", type=float, default=0.3, help="of the card, for each server")
    parser.add_argument("--cpu", action="store_true", help="on vLLM's CPU build")
    parser.add_argument("--same-graphs", action="store_true", help="let vLLM's server record as many CUDA graphs")
    parser.add_argument(
        "--start-together",
        action="store_true",
        help="do not wait for one before the other starts: sooner measured, but seconds_to_ready says nothing then",
    )
    parser.add_argument("--logs", type=Path, help="a folder that the servers' logs are copied to")
    parser.add_argument("--out", type=Path, required=True)
    return parser


if __name__ == "__main__":
    sys.exit(main())
