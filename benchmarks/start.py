"""Seconds from a server's start to its readiness: ``vllm serve`` against Whetstone's server, one after the other, each with its own caches.

python -m benchmarks.start --base FOLDER --out benchmarks/results/start.json
python -m benchmarks.start --base FOLDER --turns 1 --cpu --out ...      a rehearsal on a CPU

Ready is when an adapter is listed, which Whetstone has proved in its engine by then. The first start of each compiles and is told apart
("cold"); later ones find what it kept, as a container finds its volume. Whetstone's own parts of each start are those of its log's line.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.adapters import lay_out, publish_random
from benchmarks.machine import described, write_result
from benchmarks.servers import ADAPTER, Engine, RealServer, start_vllm, start_whetstone

_SIDES = ("vllm", "whetstone")
_CACHES = ("VLLM_CACHE_ROOT", "TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR")  # as compose.yaml sets them
_READY = b'"event":"ready"'


def main() -> int:
    """Start both by turns, print each start, write the raw figures as they come."""
    options = _parser().parse_args()
    result: dict[str, Any] = described("start") | {"starts": []}
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        key = lay_out(data, options.base)
        adapter = publish_random(data, options.base.name, ADAPTER, probed=True)
        engine = Engine(streams=options.streams, memory=options.memory, is_cpu=options.cpu, same_graphs=False)
        for turn in range(-1, options.turns):
            for side in _SIDES:
                for cache in _CACHES:
                    os.environ[cache] = str(data / "caches" / side / cache.lower())
                server = (
                    start_vllm(engine, data, options.base, adapter, key)
                    if side == "vllm"
                    else start_whetstone(engine, data, options.base, key)
                )
                try:
                    seconds = server.wait_ready()
                finally:
                    server.end()
                start = {"side": side, "cold": turn < 0, "seconds": seconds, "parts": _parts(server)}
                print(json.dumps(start), flush=True)
                result["starts"].append(start)
                result |= _summed(result["starts"])
                write_result(options.out, result)
    print(json.dumps(result["medians"]), result.get("whetstone / vllm"), flush=True)
    return 0


def _parts(server: RealServer) -> dict[str, float]:
    """What Whetstone tells of its start; empty for vLLM's server."""
    told = [json.loads(line)["parts"] for line in server.log.read_bytes().splitlines() if _READY in line]
    return told[-1] if told else {}


def _summed(starts: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians of the warm starts, and their ratio once both have one."""
    warm = {side: [each["seconds"] for each in starts if each["side"] == side and not each["cold"]] for side in _SIDES}
    medians = {side: statistics.median(seconds) for side, seconds in warm.items() if seconds}
    if len(medians) < len(_SIDES):
        return {"medians": medians}
    return {"medians": medians, "whetstone / vllm": round(medians["whetstone"] / medians["vllm"], 3)}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.start", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", type=Path, required=True, help="a base model's folder")
    parser.add_argument("--turns", type=int, default=5, help="warm starts of each")
    parser.add_argument("--streams", type=int, default=256)
    parser.add_argument("--memory", type=float, default=0.42, help="of the card")
    parser.add_argument("--cpu", action="store_true", help="on vLLM's CPU build")
    parser.add_argument("--out", type=Path, required=True)
    return parser


if __name__ == "__main__":
    sys.exit(main())
