"""The server's memory and files under an hour of load, retrains and swaps. ``make soak`` runs it.

It ends with 0 only if memory stays flat, no file descriptor stays open, no request fails, and each retrain is served.
"""

import argparse
import signal
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.machine import commit, machine
from tests.conftest import TEST_DATA, fetched_base_model
from tests.soak.judgement import Soak, Verdict, judge
from tests.soak.running import Soaking, fresh

DATA = TEST_DATA.with_name("soak")


def main() -> int:
    """Run one soak and return the exit code."""
    options = _parser().parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # no server is left behind
    fresh(DATA, fetched_base_model().parent)
    code, began = commit(), time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - began:6.0f} s  {line}", flush=True)

    soak = Soaking(DATA, seconds=60 * options.minutes, every=60 * options.every, say=say).run()
    verdict = judge(soak)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_bytes(msgspec.json.encode(_result(options, code, soak, verdict)) + b"\n")
    for fault in verdict.faults:
        print(fault)
    print("\n".join(figures(soak, verdict)))
    print("flat" if not verdict.faults else f"NOT FLAT: {len(verdict.faults)} faults, above")
    return 1 if verdict.faults else 0


def figures(soak: Soak, verdict: Verdict) -> list[str]:
    """What a person wants to know of a soak, a line each."""
    served = [f"{swap.version} ({swap.published - swap.began:.0f} s)" for swap in soak.swaps if swap.served is not None]
    lines = [
        f"{soak.seconds / 60:.1f} minutes, {sum(soak.answers.values())} answers, {len(soak.failures)} failures",
        f"served {len(served)} of {soak.wanted} retrains: {', '.join(served)}",
    ]
    for name, level in verdict.memory.items():
        files = verdict.files.get(name)
        count = f", {files.first:.0f} to {files.last:.0f} file descriptors" if files else ""
        lines.append(f"{name}: {level.first / 2**20:.1f} to {level.last / 2**20:.1f} MiB ({level.rise:+.2%}){count}")
    return lines


def _result(options: argparse.Namespace, code: str | None, soak: Soak, verdict: Verdict) -> dict[str, Any]:
    return {
        "command": f"python -m tests.soak --minutes {options.minutes:g} --every {options.every:g}",
        "commit": code,
        "machine": machine(),
        "verdict": verdict,
        **{name: getattr(soak, name) for name in soak.__struct_fields__ if name != "samples"},
        "samples": _table(soak),
    }


def _table(soak: Soak) -> dict[str, Any]:
    """The samples without the names in each: seconds, then MiB of each process, then its open files."""
    names = sorted({name for sample in soak.samples for name in sample.memory})
    rows = [
        [
            sample.seconds,
            *(round(sample.memory.get(name, 0) / 2**20, 1) for name in names),
            *(sample.files.get(name, 0) for name in names),
        ]
        for sample in soak.samples
    ]
    return {
        "columns": ["seconds", *(f"{name}, MiB" for name in names), *(f"{name}, files" for name in names)],
        "rows": rows,
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak", description=__doc__, epilog="exit codes: 0 flat, 1 not flat"
    )
    parser.add_argument("--minutes", type=float, default=60.0, metavar="N", help="how long (default 60)")
    parser.add_argument("--every", type=float, default=10.0, metavar="N", help="minutes between retrains (default 10)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write samples, swaps, verdict and machine to FILE")
    return parser


if __name__ == "__main__":
    sys.exit(main())
