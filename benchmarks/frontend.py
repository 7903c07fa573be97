"""Frames per second of one core: vLLM's own server against Whetstone's, on an engine that answers at once.

python -m benchmarks.frontend --base FOLDER [--turns 5] [--streams 64] [--tokens 64] [--seconds 10] [--out FILE]

Server and load have a core each. Two engines: ``steps`` gives every running request a token per step through vLLM's own output
processing; ``at once`` replaces the engine client's generating call, so that what remains is the server alone. Both servers check a
key, serve an adapter by its name and stream chat; Whetstone's counts, limits and logs every request besides.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.adapters import lay_out, publish_random
from benchmarks.instant import ADAPTER
from benchmarks.instant import Plan as ServerPlan
from benchmarks.load import Plan as LoadPlan
from benchmarks.load import Result
from benchmarks.machine import REPOSITORY, described, environment, write_result
from tools.serving import free_port

SERVERS = ("vllm", "whetstone")
_START_SECONDS = 180.0
_TICKS = os.sysconf("SC_CLK_TCK")
_SERVER_CORE, _LOAD_CORE = 0, 1


class Server:
    """One server process on its core.

    Args:
        name: ``vllm`` or ``whetstone``.
        plan: what it is to be.
        log: its file.
        program: module and further words of the process.
    """

    def __init__(
        self, name: str, plan: ServerPlan, log: Path, program: Sequence[str] = ("benchmarks.instant",)
    ) -> None:
        self.name = name
        self.port = plan.port
        self._log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", program[0], name, msgspec.json.encode(plan).decode(), *program[1:]],
                env=environment(WHETSTONE_CONFIG=str(REPOSITORY / "config"), WHETSTONE_PROFILE="cpu"),
                stdout=output,
                stderr=output,
            )
        os.sched_setaffinity(self._process.pid, {_SERVER_CORE})

    def wait_ready(self, key: str) -> None:
        """Until it lists the adapter."""
        end = time.monotonic() + _START_SECONDS
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/v1/models", headers={"Authorization": f"Bearer {key}"}
        )
        while True:
            try:
                with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310
                    if ADAPTER in answer.read().decode():
                        return
            except OSError:
                pass
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"{self.name} did not start: {self._log.read_text()[-3000:]}")
            time.sleep(0.2)

    def cpu_seconds(self) -> float:
        """What the process used since it began."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def end(self) -> None:
        """SIGTERM, and wait."""
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def measure(server: Server, plan: LoadPlan) -> Result:
    """One run of the load on one server."""
    before = server.cpu_seconds()
    ran = subprocess.run(
        ["taskset", "-c", str(_LOAD_CORE), sys.executable, "-m", "benchmarks.load", msgspec.json.encode(plan).decode()],
        env=environment(),
        capture_output=True,
        check=False,
    )
    if ran.returncode != 0:
        raise RuntimeError(f"{server.name}: {ran.stderr.decode()[-2000:]}")
    result = msgspec.json.decode(ran.stdout, type=Result)
    # The warm-up and the moments around it are in the process's time: its share of the counted time is what is told.
    used = server.cpu_seconds() - before
    return msgspec.structs.replace(
        result, server_cpu_seconds=round(used * plan.seconds / (plan.seconds + plan.warm_seconds), 3)
    )


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.frontend", description=__doc__)
    parser.add_argument("--base", type=Path, required=True, help="a base model's folder; its weights are not read")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--engines", nargs="+", choices=("steps", "at once"), default=["steps", "at once"])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    result: dict[str, Any] = {
        **described("frontend"),
        "streams": options.streams,
        "tokens": options.tokens,
        "engines": {},
    }
    for engine in options.engines:
        with tempfile.TemporaryDirectory() as scratch:
            result["engines"][engine] = compare(engine, options, Path(scratch))
        if options.out:
            write_result(options.out, result)


def compare(engine: str, options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Both servers on one engine, by turns."""
    key = lay_out(scratch, options.base)
    adapter = publish_random(scratch, options.base.name, ADAPTER)
    servers: list[Server] = []
    try:
        for name in SERVERS:
            plan = ServerPlan(
                data=str(scratch),
                model=str(options.base.absolute()),
                adapter=str(adapter),
                port=free_port(),
                key=key,
                at_once=engine == "at once",
                streams=options.streams,
            )
            servers.append(Server(name, plan, scratch / f"{name}.log"))
            servers[-1].wait_ready(key)
        runs: dict[str, list[Result]] = {name: [] for name in SERVERS}
        for turn in range(options.turns):
            for server in servers:
                load = LoadPlan(
                    port=server.port,
                    key=key,
                    model=ADAPTER,
                    streams=options.streams,
                    tokens=options.tokens,
                    seconds=options.seconds,
                )
                runs[server.name].append(measure(server, load))
                told = runs[server.name][-1]
                print(
                    f"{engine:8} turn {turn + 1} {server.name:10} {told.frames / told.seconds:9.0f} frames/s "
                    f"{told.frames / told.server_cpu_seconds:9.0f} a CPU second  "
                    f"first frame {told.first_frame_ms[0]:.1f} ms  load {told.cpu_seconds / told.seconds:.0%}",
                    flush=True,
                )
    finally:
        for server in servers:
            server.end()
    return summary(runs)


def summary(runs: dict[str, list[Result]]) -> dict[str, Any]:
    """Medians, spreads and ratios of both servers."""
    speeds = {name: [run.frames / run.seconds for run in results] for name, results in runs.items()}
    per_cpu = {name: [run.frames / run.server_cpu_seconds for run in results] for name, results in runs.items()}
    told: dict[str, Any] = {
        name: {
            "frames_per_second": _spread(speeds[name]),
            "frames_per_server_cpu_second": _spread(per_cpu[name]),
            "first_frame_ms": statistics.median(run.first_frame_ms[0] for run in results),
            "runs": msgspec.to_builtins(results),
        }
        for name, results in runs.items()
    }
    for figure, values in (("ratio", speeds), ("ratio_per_cpu_second", per_cpu)):
        told[figure] = round(statistics.median(values["whetstone"]) / statistics.median(values["vllm"]), 2)
        print(f"{figure}: {told[figure]}")
    return told


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": round(statistics.median(values)), "least": round(min(values)), "most": round(max(values))}


if __name__ == "__main__":
    main()
