"""What an adapter costs: requests per second of a version as LoRA and merged, against the base alone on an engine without LoRA.

python -m benchmarks.against_base --base FOLDER --client VLLM_RS --out benchmarks/results/against-base.json
python -m benchmarks.against_base --base FOLDER --client VLLM_RS --loads 4x16x8 --turns 1 --cpu --memory 0 --out ...     on a CPU

Sides, each asked by turns, all on one card with the same engine arguments:

  lora      Whetstone's server; the version in service as LoRA
  base      the same server; the base beside it
  merged    Whetstone's server with ``engine.merged_adapter``; the version in service, merged
  alone     Whetstone's server and the base, on an engine without LoRA
  rust      vLLM's server with its front end in Rust, and the base; it cannot load an adapter

The adapter was taught an answer, and is asked for it beside the load while the sides warm up; then merged a second version takes its
place, and is asked for its own. A wrong answer ends the measurement.
"""

import argparse
import contextlib
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.adapters import base_of, lay_out
from benchmarks.loads import Asked, add_load_options, by_turns
from benchmarks.machine import described, write_result
from benchmarks.servers import Engine, RealServer, start_vllm_in_rust, start_whetstone
from benchmarks.serving import watched
from services.registry.layout import Registry
from services.registry.pointer import promote
from tests.e2e.adapters import AdapterMaker

_ADAPTER = "acme-handbook"
_SAYS = ("My cover is green: first handbook.", "My cover is blue: second handbook.")
_SIDES = ("lora", "base", "merged", "alone", "rust")
_WITH_ADAPTER = ("lora", "merged")
_PAIRS = [("lora", "alone"), ("merged", "alone"), ("merged", "lora"), ("base", "rust"), ("alone", "rust")]
_MERGE_SECONDS = 300.0


def main() -> int:
    """Start the servers of the sides that are asked for, measure by turns, write the raw figures as they come."""
    options = _parser().parse_args()
    result: dict[str, Any] = described("against_base") | {"loads": {}, "merged_seconds": []}
    with tempfile.TemporaryDirectory() as folder:
        house = House(Path(folder), options)
        try:
            sides = house.start()
            pairs = [pair for pair in _PAIRS if set(pair) <= set(options.sides)]
            by_turns(sides, options, pairs, result, scratch=house.root, watched=house.watched)
            for side in sides:
                if side.name == "merged":
                    result["merged_seconds"] = house.swap(side, options)
                    write_result(options.out, result)
        finally:
            house.end()
    for name, found in result["loads"].items():
        print(name, json.dumps(found["ratios"]), flush=True)
    return 0


class House:
    """The servers, each with a data root of its own below one folder.

    Args:
        root: empty.
        options: of the command.
    """

    def __init__(self, root: Path, options: argparse.Namespace) -> None:
        self.root = root
        self._options = options
        self._base: Path = options.base
        self._servers: dict[str, RealServer] = {}
        self._engine = Engine(
            streams=max(load.streams for load in options.loads),
            memory=options.memory,
            is_cpu=options.cpu,
            same_graphs=False,
        )
        self._key = ""

    def start(self) -> list[Asked]:
        """Start what the sides need."""
        merged = [f"engine.merged_adapter={_ADAPTER}", f"engine.merged_gpu_memory_utilization={self._options.memory}"]
        starts: dict[str, Callable[[], RealServer]] = {
            "lora": lambda: self._whetstone("lora"),
            "merged": lambda: self._whetstone("merged", *merged),
            "alone": lambda: self._whetstone("alone", module="benchmarks.base_alone"),
            "rust": lambda: start_vllm_in_rust(self._engine, self.root, self._base, self._key),
        }
        server_of = {"base": "lora"}
        for side in self._options.sides:
            server = server_of.get(side, side)
            if server not in self._servers:
                self._servers[server] = starts[server]()
                self._wait(server)
        models = {name: _ADAPTER if name in _WITH_ADAPTER else self._base.name for name in _SIDES}
        return [Asked(side, self._servers[server_of.get(side, side)], models[side]) for side in self._options.sides]

    def _wait(self, name: str) -> None:
        """One after the other: each looks at the card's free memory, and refuses one that grows meanwhile."""
        server = self._servers[name]
        seconds = server.wait_ready(_ADAPTER if name in _WITH_ADAPTER else self._base.name)
        print(name, "ready after", seconds, "s", flush=True)
        if name == "merged":
            print("merged after", _merged(server, 1), "s", flush=True)

    def watched(self, side: Asked) -> contextlib.AbstractContextManager[None]:
        """Ask the side for what its adapter was taught meanwhile, where it has one."""
        if side.model != _ADAPTER:
            return contextlib.nullcontext()
        return watched(side.server, self.root / "watched", _ADAPTER, _SAYS)

    def swap(self, side: Asked, options: argparse.Namespace) -> list[float]:
        """Put the second version into service under load, and ask for what it was taught once it is merged.

        Returns:
            seconds that merging each of both versions took.
        """
        with self.watched(side):
            promote(Registry(self.root / side.name / "registry"), _ADAPTER, 2)
            _merged(side.server, 2)
            side.run(options.loads[0], options, self.root / "bench.json", seed=99)
        return [_merged(side.server, 1), _merged(side.server, 2)]

    def end(self) -> None:
        """End what was started, keep its logs."""
        for name, server in self._servers.items():
            server.end()
            if self._options.logs:
                (self._options.logs / f"{name}.log").write_bytes(server.log.read_bytes())

    def _taught(self, data: Path) -> Path:
        """A registry with both versions, made once."""
        registry = Registry(self.root / "registry")
        if not registry.root.exists():
            maker = AdapterMaker(data / "models" / self._base.name, base_of(data, self._base.name))
            for says in _SAYS:
                maker.publish(registry, _ADAPTER, says)
            promote(registry, _ADAPTER, 1)
        return registry.root

    def _whetstone(self, name: str, *more: str, module: str = "services.server") -> RealServer:
        data = self.root / name
        self._key = lay_out(data, self._base)
        (self.root / "cache").mkdir(exist_ok=True)
        (data / "cache").symlink_to(self.root / "cache")
        if name != "alone":
            shutil.copytree(self._taught(data), data / "registry")
        return start_whetstone(self._engine, data, self._base, self._key, name=name, module=module, more=more)


def _merged(server: RealServer, version: int) -> float:
    """Wait until a version is merged, and say how many seconds that took."""
    until = time.monotonic() + _MERGE_SECONDS
    while time.monotonic() < until:
        for line in server.log.read_text().splitlines():
            if '"adapter version merged"' in line and f"{_ADAPTER}@{version}" in line:
                return float(json.loads(line)["seconds"])
            if '"adapter version not merged"' in line:
                raise RuntimeError(f"not merged: {json.loads(line)['reason']}")
        time.sleep(0.2)
    raise RuntimeError(f"version {version} was not merged: {server.log.read_text(errors='replace')[-6000:]}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.against_base",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_load_options(parser)
    parser.add_argument("--memory", type=float, default=0.16, help="of the card, for each engine")
    parser.add_argument("--sides", nargs="+", choices=_SIDES, default=list(_SIDES))
    return parser


if __name__ == "__main__":
    sys.exit(main())
