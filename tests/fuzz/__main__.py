"""The real server with the real engine, asked at random by schemathesis. ``make fuzz`` runs it.

It ends with 0 only if no answer was a fault of the server's, the engine answers as before, and neither memory nor an open file is kept.
"""

import argparse
import json
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.machine import commit, machine, write_result
from tests.conftest import fetched_base_model
from tests.fuzz.judgement import Fuzz
from tests.fuzz.running import run


def main() -> int:
    """Ask, and return the exit code."""
    options = _parser().parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # no server is left behind
    base_model_dir, code, began = fetched_base_model(), commit(), time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - began:6.0f} s  {line}", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        fuzz = run(
            Path(folder),
            base_model_dir,
            cases=options.cases,
            minutes=options.minutes,
            seed=options.seed,
            say=say,
        )
    if options.json:
        _add(options.json, {"commit": code, "machine": machine(), **_part(fuzz)})
    for fault in fuzz.faults:
        print(fault)
    print(f"{fuzz.cases} cases, {len(fuzz.faults)} faults; answers: {dict(fuzz.statuses)}")
    return 1 if fuzz.faults else 0


def _part(fuzz: Fuzz) -> dict[str, Any]:
    return {
        "command": " ".join(["python -m tests.fuzz", *sys.argv[1:]]),
        "cases": fuzz.cases,
        "statuses": fuzz.statuses,
        **dict(msgspec.to_builtins(fuzz)),
    }


def _add(file: Path, part: dict[str, Any]) -> None:
    """One more part of a run that was made in several, each with its own server and seeds."""
    kept = json.loads(file.read_text()) if file.exists() else {}
    parts = [*kept.get("parts", []), part]
    write_result(file, {**kept, "cases": sum(one["cases"] for one in parts), "parts": parts})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description=__doc__, epilog="exit codes: 0 nothing found, 1 faults"
    )
    parser.add_argument("--cases", type=int, default=50_000, metavar="N", help="at least so many (default 50000)")
    parser.add_argument("--minutes", type=float, default=600.0, metavar="N", help="no round begins after so many")
    parser.add_argument(
        "--seed",
        type=int,
        default=1,
        metavar="N",
        help="of the first run of schemathesis; each has the next (default 1)",
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="add what was asked and seen to FILE, as one part of it"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
