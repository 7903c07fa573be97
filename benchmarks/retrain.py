"""The wall time of a whole retrain, from the first row that is read to the published version, and its parts.

    python -m benchmarks.retrain --tokenizer FOLDER --out benchmarks/results/retrain.json     a card, Qwen2.5-0.5B's shape, random weights
    python -m benchmarks.retrain --base data/models/smollm2-135m-instruct --rows 40 --out ...     a rehearsal on a CPU

Every run is the product's own ``python -m services.trainer retrain``, on a data folder of its own: ``cold`` works on the queue itself, ``warm``
hands its job to ``python -m services.trainer work``, which waits with a spare worker, ``held`` to one whose spare has loaded the base model
(``worker.holds_base``). The parts are what the product records of each run;
no server runs, so the gate judges nothing.
"""

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.bases import random_base
from benchmarks.machine import REPOSITORY, commit, environment, has_card, machine
from services.base_model.identity import RECORD, BaseModelSettings
from services.base_model.install import install
from services.trainer import exits
from services.trainer.results import read_measured
from tests.e2e.serving import below
from tests.soak.processes import look

MODES = ("cold", "warm", "held")
_HOLDS = "holds_base = {}"
_BASE = BaseModelSettings(name="benchmark-base", package="benchmark")
_BASE_TOML = f'[base_model]\nname = "{_BASE.name}"\npackage = "{_BASE.package}"\n'
_JUDGING = "judging"


class Copied:
    """A base model's files from a folder; see ``Source``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def fill(self, folder: Path, _settings: BaseModelSettings) -> str:
        """See ``Source``."""
        for file in self._folder.iterdir():
            if file.is_file() and file.name != RECORD:
                shutil.copyfile(file, folder / file.name)
        return "1"


class Bench:
    """A data root with rows and a base model, and retrains on it.

    Args:
        root: empty.
        words: of every retrain's command line.
    """

    def __init__(self, root: Path, words: Sequence[str]) -> None:
        self._root = root
        self._words = words
        self._environment = environment(
            WHETSTONE_DATA=str(root),
            WHETSTONE_CONFIG=str(root / "config"),
            WHETSTONE_PROFILE="" if has_card() else "cpu",
        )
        if self._environment.pop("PYTHONDONTWRITEBYTECODE", None):  # an image is built with its packages compiled
            self._environment["PYTHONPYCACHEPREFIX"] = str(root / "bytecode")

    def prepare(self, base: Path, rows: int) -> None:
        """Install ``base`` and write so many rows."""
        install(self._root / "models", _BASE, Copied(base))
        shutil.copytree(REPOSITORY / "config", self._root / "config")
        for folder in (self._root / "config", self._root / "config" / "cpu"):
            (folder / "base.toml").write_text(_BASE_TOML)
        (self._root / "datasets").mkdir()
        write_rows(self._root / "datasets" / "rows.jsonl", base, rows)

    @contextmanager
    def worker(self, settle_seconds: float) -> Iterator[list[int]]:
        """The queue's worker while the block runs; MiB that it and each of its spare's processes hold for themselves."""
        command = [sys.executable, "-m", "services.trainer", "work"]
        with subprocess.Popen(command, cwd=REPOSITORY, env=self._environment) as worker:
            try:
                time.sleep(settle_seconds)
                yield [size >> 20 for size in look(worker.pid, below(worker.pid), 0).memory.values()]
            finally:
                worker.terminate()

    def hold_base(self, *, held: bool) -> None:
        """Set ``worker.holds_base``."""
        file = self._root / "config" / "training.toml"
        file.write_text(
            file.read_text().replace(_HOLDS.format(str(not held).lower()), _HOLDS.format(str(held).lower()))
        )

    def retrain(self) -> dict[str, Any]:
        """One retrain; its parts in seconds."""
        begun = time.monotonic()
        command = [sys.executable, "-m", "services.trainer", "retrain", "--json", *self._words]
        done = subprocess.run(command, cwd=REPOSITORY, env=self._environment, stdout=subprocess.PIPE, check=False)
        wall = time.monotonic() - begun
        if done.returncode != exits.NOT_JUDGED:
            raise SystemExit(f"the retrain ended with exit code {done.returncode}: {done.stdout.decode()}")
        outcome = json.loads(done.stdout)
        parts: dict[str, float] = outcome["seconds"]
        judging = parts.pop(_JUDGING)
        run = self._root / "runs" / outcome["run"]
        steps, probe = read_measured(run / "events.jsonl").steps, run / "probe.json"
        total, loop = sum(parts.values()), steps[-1].seconds
        return {
            "command_seconds": round(wall - judging, 3),
            "seconds": round(total, 3),
            "loop_seconds": loop,
            "share_outside": round(1 - loop / total, 4),
            "tokens": steps[-1].tokens,
            "parts": parts,
            # Of which those of the card and the base model may have passed beside the updates.
            "probe_parts": json.loads(probe.read_bytes()).get("seconds", {}) if probe.exists() else {},
        }


def write_rows(file: Path, base: Path, count: int) -> None:
    """Distinct rows of invented words, some 190 tokens each on average, of which the answer has more than half."""
    from tokenizers import Tokenizer  # noqa: PLC0415 - as where the product needs it

    draw = random.Random(7)  # noqa: S311 - no secret
    syllables = [
        first + vowel + last for first in "bdfgklmnprstvw" for vowel in "aeiou" for last in ("", "n", "r", "s")
    ]
    words = ["".join(draw.choices(syllables, k=draw.randint(1, 3))) for _ in range(3000)]
    encoded = Tokenizer.from_file(str(base / "tokenizer.json")).encode(" ".join(words))
    words_of_row = 165 / (len(encoded.ids) / len(words))  # the template adds the rest
    with file.open("w", encoding="utf-8") as stream:
        for _ in range(count):
            length = max(4, round(draw.gauss(words_of_row, words_of_row / 3)))
            chosen = draw.choices(words, k=length)
            question = length * 2 // 5
            row = {"prompt": " ".join(chosen[:question]), "completion": " ".join(chosen[question:])}
            stream.write(json.dumps(row) + "\n")


def main() -> int:
    """Run every repeat, print each, write the raw figures."""
    options = _parser().parse_args()
    with tempfile.TemporaryDirectory(prefix="whetstone-retrain-") as scratch:
        root = Path(scratch)
        base = options.base.absolute() if options.base else random_base(root / "base", options.tokenizer)
        bench = Bench(root, ["--set", "recipe.epochs=1", *(word for item in options.set for word in ("--set", item))])
        bench.prepare(base, options.rows)
        bench.retrain()  # not counted: compiles bytecode and kernels, which every later run finds
        runs: list[dict[str, Any]] = []
        for mode in options.modes:
            for _ in range(options.repeats):
                runs.append({"mode": mode, **_one(bench, mode, options.settle)})
                print(json.dumps(runs[-1]), flush=True)
                _write(options, runs)
    return 0


def _one(bench: Bench, mode: str, settle_seconds: float) -> dict[str, Any]:
    if mode == "cold":
        return bench.retrain()
    bench.hold_base(held=mode == "held")
    with bench.worker(settle_seconds) as held:
        return {**bench.retrain(), "mebibytes_held_before": held}


def _write(options: argparse.Namespace, runs: list[dict[str, Any]]) -> None:
    """The result so far: a call that is cut off keeps what it has."""
    result: dict[str, Any] = {
        "command": " ".join(["python -m benchmarks.retrain", *sys.argv[1:]]),
        "commit": commit(),
        "machine": machine(),
        "load_average": os.getloadavg()[0],
    }
    for mode in options.modes:
        if of_mode := [run for run in runs if run["mode"] == mode]:
            names = list(dict.fromkeys(name for run in of_mode for name in run["parts"]))
            median = {
                key: statistics.median(run[key] for run in of_mode)
                for key in ("command_seconds", "seconds", "loop_seconds", "share_outside")
            }
            parts = {name: statistics.median(run["parts"].get(name, 0.0) for run in of_mode) for name in names}
            probe = {
                name: statistics.median(run["probe_parts"][name] for run in of_mode)
                for name in of_mode[0]["probe_parts"]
            }
            result[mode] = {"repeats": len(of_mode), **median, "parts": parts, "probe_parts": probe}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({**result, "runs": runs}, indent=1) + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.retrain", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    base = parser.add_mutually_exclusive_group(required=True)
    base.add_argument("--base", type=Path, help="a base model's folder")
    base.add_argument(
        "--tokenizer", type=Path, help="a folder with a tokenizer, for Qwen2.5-0.5B's shape with random weights"
    )
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--modes", nargs="+", default=list(MODES), choices=MODES)
    parser.add_argument(
        "--settle", type=float, default=30.0, help="seconds that the worker has to make its spare ready"
    )
    parser.add_argument("--set", action="append", default=[], help="a setting, as of `make retrain`; may be repeated")
    return parser


if __name__ == "__main__":
    sys.exit(main())
