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
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.adapters import base_of, lay_out, publish_random
from benchmarks.loads import Asked, add_load_options, by_turns
from benchmarks.machine import described
from benchmarks.servers import ADAPTER, Engine, RealServer, start_vllm, start_whetstone
from benchmarks.watched_load import Plan, Watched, asked_beside
from services.registry.layout import Registry
from services.registry.pointer import promote
from tests.e2e.adapters import QUESTION, AdapterMaker

_TAUGHT, _SAYS = "acme-handbook", "My cover is green: second handbook."
_WATCHED = 4  # streams that ask for it
_PAIRS = [("whetstone", "vllm")]
_APART_SECONDS = 20.0  # each looks at the card's free memory, and refuses one that grows meanwhile


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
        key = lay_out(data, options.base)
        adapter = publish_random(data, options.base.name, ADAPTER, probed=True)
        _teach(data, options.base.name)
        engine = Engine(
            streams=max(load.streams for load in options.loads),
            memory=options.memory,
            is_cpu=options.cpu,
            same_graphs=options.same_graphs,
        )
        servers: list[RealServer] = []
        try:
            servers.append(start_whetstone(engine, data, options.base, key))
            if options.start_together:
                time.sleep(_APART_SECONDS)
            else:
                _wait(servers, result)
                with _watched(servers[0], data):  # wrong answers are known before the other takes its minutes to start
                    _asked(servers[0]).run(options.loads[0], options, data / "bench.json", seed=0)
            servers.insert(0, start_vllm(engine, data, options.base, adapter, key))
            _wait(servers, result)
            sides = [_asked(server) for server in servers]
            by_turns(sides, options, _PAIRS, result, scratch=data, watched=lambda side: _looked_at(side, data))
        finally:
            for server in servers:
                server.end()
            if options.logs:
                for server in servers:
                    (options.logs / f"{server.name}.log").write_bytes(server.log.read_bytes())
    for name, found in result["loads"].items():
        print(name, json.dumps(found["ratios"]), flush=True)
    return 0


def _asked(server: RealServer) -> Asked:
    return Asked(server.name, server, ADAPTER)


def _looked_at(side: Asked, folder: Path) -> contextlib.AbstractContextManager[None]:
    return _watched(side.server, folder) if side.name == "whetstone" else contextlib.nullcontext()


def _teach(data: Path, base: str) -> None:
    """A second adapter, of Whetstone's alone, whose answer is known."""
    registry, maker = Registry(data / "registry"), AdapterMaker(data / "models" / base, base_of(data, base))
    promote(registry, _TAUGHT, maker.publish(registry, _TAUGHT, _SAYS).version)


@contextlib.contextmanager
def watched(server: RealServer, seen: Path, model: str, says: Sequence[str]) -> Iterator[None]:
    """Ask an adapter for what it was taught meanwhile.

    Args:
        server: that has it.
        seen: where what was seen is written.
        model: its name.
        says: what its odd versions and its even ones answer.

    Raises:
        RuntimeError: an answer was wrong, or there was none.
    """
    plan = Plan(
        port=server.port,
        key=server.key,
        model=model,
        question=QUESTION,
        answers=list(says),
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


def _watched(server: RealServer, folder: Path) -> contextlib.AbstractContextManager[None]:
    return watched(server, folder / "watched", _TAUGHT, [_SAYS, _SAYS])


def _wait(servers: list[RealServer], result: dict[str, Any]) -> None:
    for server in servers:
        if server.name not in result["seconds_to_ready"]:
            result["seconds_to_ready"][server.name] = server.wait_ready()
            print(server.name, "ready after", result["seconds_to_ready"][server.name], "s", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serving", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_load_options(parser)
    parser.add_argument("--memory", type=float, default=0.3, help="of the card, for each server")
    parser.add_argument("--same-graphs", action="store_true", help="let vLLM's server record as many CUDA graphs")
    parser.add_argument(
        "--start-together",
        action="store_true",
        help="do not wait for one before the other starts: sooner measured, but seconds_to_ready says nothing then",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
