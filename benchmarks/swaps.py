"""What streams notice of hot swaps: Whetstone's server under a steady load, while version after version is put into service.

python -m benchmarks.swaps --base FOLDER --out benchmarks/results/swaps.json
python -m benchmarks.swaps --base FOLDER --streams 4 --tokens 24 --swaps 2 --every 20 --cpu --out ...      a rehearsal on a CPU

Two adapters that answer one question each in its own words are published by turns, each time as a new version that is promoted at
once: the server has to check, load and probe it before it serves. Every answer has to be wholly of the version that it names.
Gaps between an answer's tokens are told apart by whether they end near a swap: from its publishing until two seconds after the
new version's first token.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from benchmarks.adapters import base_of, lay_out
from benchmarks.machine import described, write_result
from benchmarks.servers import ADAPTER, Engine, RealServer, start_whetstone
from benchmarks.watched_load import Plan, Watched, asked_beside
from services.registry.layout import Registry
from services.registry.manifest import Manifest
from services.registry.pointer import promote
from services.registry.publish import Lineage, publish, staging
from tests.e2e.adapters import QUESTION, AdapterMaker

# Of version 1, 3, 5 and on, and of version 2, 4, 6 and on.
ANSWERS = ("I am the first handbook, the red one.", "My cover is green: second handbook.")
AFTER_SECONDS = 2.0
_WARM_SECONDS = 5.0
_MILLISECONDS = 1000


class Swap(msgspec.Struct):
    """One version's way into service, in seconds of the machine's clock.

    Attributes:
        version: its number.
        began: its publishing.
        moved: the pointer.
        first_token: of the first answer by it.
    """

    version: int
    began: float
    moved: float
    first_token: float = float("nan")


def main() -> int:
    """Measure, print and write; 1 where an answer failed or was mixed."""
    options = _parser().parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        key = lay_out(data, options.base)
        base = base_of(data, options.base.name)
        registry, maker = Registry(data / "registry"), AdapterMaker(options.base, base)
        taught = [maker.publish(registry, ADAPTER, answer) for answer in ANSWERS]
        promote(registry, ADAPTER, 1)
        engine = Engine(streams=options.streams, memory=options.memory, is_cpu=options.cpu, same_graphs=False)
        server = start_whetstone(engine, data, options.base, key)
        try:
            print("ready after", server.wait_ready(), "s", flush=True)
            swaps, watched = _swap(server, registry, taught, options, data / "watched")
        finally:
            server.end()
    result = described("swaps") | _told(swaps, watched, options)
    write_result(options.out, result)
    print(json.dumps({name: value for name, value in result.items() if name not in {"swaps", "machine"}}, indent=1))
    return 1 if watched.faults else 0


def _swap(
    server: RealServer, registry: Registry, taught: list[Manifest], options: argparse.Namespace, out: Path
) -> tuple[list[Swap], Watched]:
    plan = Plan(
        port=server.port,
        key=server.key,
        model=ADAPTER,
        question=QUESTION,
        answers=list(ANSWERS),
        streams=options.streams,
        tokens=options.tokens,
        out=str(out),
    )
    swaps = []
    with asked_beside(plan):
        time.sleep(_WARM_SECONDS + options.every)
        for number in range(options.swaps):
            began = time.monotonic()
            version = _publish_again(registry, taught[number % 2]).version
            promote(registry, ADAPTER, version)
            swaps.append(Swap(version, began, time.monotonic()))
            time.sleep(options.every)
    return swaps, Watched.read(out)


def _publish_again(registry: Registry, taught: Manifest) -> Manifest:
    """The same files as a new version."""
    source = registry.folder(taught.adapter, taught.version)
    lineage = Lineage(
        base=taught.base, lora=taught.lora, probe=taught.probe, dataset={}, recipe={}, packages={}, metrics={}
    )
    with staging(registry, taught.adapter) as staged:
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            (staged / name).write_bytes((source / name).read_bytes())
        return publish(registry, taught.adapter, staged, lineage)


def _told(swaps: list[Swap], watched: Watched, options: argparse.Namespace) -> dict[str, Any]:
    for swap in swaps:
        firsts = [answer.first_token for answer in watched.answers if answer.version == swap.version]
        swap.first_token = min(firsts, default=float("nan"))
    ends, gaps = watched.ends, watched.gaps
    counted = ends > watched.began + _WARM_SECONDS
    near = np.zeros(len(ends), dtype=bool)
    for swap in swaps:
        near |= (ends >= swap.began) & (ends <= swap.first_token + AFTER_SECONDS)
    steady, swapping = gaps[counted & ~near], gaps[counted & near]
    silence = np.diff(np.sort(ends[counted]))
    silence_near = near[counted][np.argsort(ends[counted])][1:]
    seconds = [swap.first_token - swap.moved for swap in swaps]
    return {
        "streams": options.streams,
        "tokens": options.tokens,
        "answers": len(watched.answers),
        "faults": watched.faults,
        "served_versions": sorted({answer.version for answer in watched.answers}),
        "seconds_from_pointer_to_first_token": {
            "median": round(statistics.median(seconds), 3),
            "most": round(max(seconds), 3),
        },
        "milliseconds_between_tokens": {
            "steady": _percentiles(steady),
            "near_a_swap": _percentiles(swapping),
            "ratio_of_p99": round(float(np.percentile(swapping, 99) / np.percentile(steady, 99)), 3),
        },
        # Of all streams together: how long no token at all came.
        "milliseconds_of_silence": {
            "steady": _percentiles(silence[~silence_near]),
            "near_a_swap": _percentiles(silence[silence_near]),
        },
        "swaps": [
            {
                "version": swap.version,
                "publish_seconds": round(swap.moved - swap.began, 3),
                "first_token_seconds": round(swap.first_token - swap.moved, 3),
            }
            for swap in swaps
        ],
    }


def _percentiles(seconds: "np.ndarray[Any, np.dtype[np.float64]]") -> dict[str, float]:
    told = {"median": 50, "p99": 99, "p99.9": 99.9, "most": 100}
    found = {name: round(float(np.percentile(seconds, share)) * _MILLISECONDS, 2) for name, share in told.items()}
    return {"count": len(seconds), **found}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.swaps", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", type=Path, required=True, help="the base model's folder, with its real weights")
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=64, help="of each answer")
    parser.add_argument("--swaps", type=int, default=10)
    parser.add_argument("--every", type=float, default=5.0, help="seconds between swaps")
    parser.add_argument("--memory", type=float, default=0.3, help="of the card")
    parser.add_argument("--cpu", action="store_true", help="on vLLM's CPU build")
    parser.add_argument("--out", type=Path, required=True)
    return parser


if __name__ == "__main__":
    sys.exit(main())
