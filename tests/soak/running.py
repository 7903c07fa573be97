"""A soak: the real server under a steady load, with a real retrain and a swap again and again."""

import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from services.trainer import exits
from tests.conftest import REPOSITORY, project_environment
from tests.e2e.asking import BASE
from tests.e2e.serving import ServerProcess
from tests.soak.asking import Apps
from tests.soak.judgement import Soak, Swap
from tests.soak.processes import look

ADAPTER = "norudam"
SAMPLE_SECONDS = 2.0
LEAST_LOOKS = 240  # of a short soak: the fewest open files are seen between two requests
SAY_SECONDS = 30.0
SERVED_SECONDS = 60.0
REST_SECONDS = 30.0  # after the last swap: a judging has connections of its own
ROWS = 40
WARM_TOKENS = 160
# Few steps and a short judging: it is the server that is soaked. Old versions are deleted meanwhile, too.
RETRAIN = [
    f"adapter.name={ADAPTER}",
    "data.holdout_share=0.1",
    "recipe.max_steps=4",
    "recipe.rows_per_step=2",
    "recipe.warmup_steps=0",
    "recipe.learning_rate=2e-3",
    "versions.keep=3",
    "gate.general_prompts=4",
    "gate.general_texts=2",
    "gate.answer_tokens=16",
]


# Engine and training each have cores of their own: on the same ones they wait for each other's threads, and a step takes a minute.
CORES = os.cpu_count() or 1
ENGINE_CORES = max(1, CORES // 2)


class Soaking:
    """One soak.

    Args:
        data: a data root with ``models`` in it.
        seconds: how long.
        every: a retrain begins so often, the first at once.
        say: is told of the progress.
    """

    def __init__(self, data: Path, *, seconds: float, every: float, say: Callable[[str], None]) -> None:
        self._data, self._seconds, self._every, self._say = data, seconds, every, say
        self._look_every = min(SAMPLE_SECONDS, seconds / LEAST_LOOKS)
        self.soak = Soak(wanted=max(1, int(seconds // every)))
        self._over = threading.Event()
        (data / "datasets").mkdir()
        rows = (REPOSITORY / "examples" / "norudam" / "datasets" / "support.jsonl").read_text().splitlines()[:ROWS]
        (data / "datasets" / "rows.jsonl").write_text("\n".join(rows) + "\n")

    def run(self) -> Soak:
        """Start the server, soak it, stop it; what was seen."""
        self._server = ServerProcess(self._data, f"engine.cpu_threads_bind=0-{ENGINE_CORES - 1}")
        try:
            self._server.wait_ready()
            self._warm()
            self._began = time.monotonic()
            with Apps(self._server, ADAPTER) as apps:
                self._apps = apps
                watching = threading.Thread(target=self._watch)
                watching.start()
                try:
                    self._retrain_again_and_again()
                finally:
                    self._over.set()
                    watching.join()
            self.soak.seconds = round(self._since(), 1)
            self.soak.answers, self.soak.failures = dict(apps.answers), [*self.soak.failures, *apps.failures]
            for swap in self.soak.swaps:
                swap.answers = apps.named[swap.version]
            readiness = self._server.readiness
            if readiness.get("status") != "ready":
                self.soak.failures.append(f"the server is {readiness.get('status')} in the end")
            if code := self._server.terminate():
                self.soak.failures.append(f"the server stopped with exit code {code}")
        finally:
            self._server.end()
        self.soak.log_errors = errors_in(self._server.log)
        return self.soak

    def _warm(self) -> None:
        """Have the engine see prompts of many lengths: oneDNN keeps what it made ready for each, up to a bound, and that is no leak."""
        pick = random.Random(0)  # noqa: S311 - repeatable
        begun = time.monotonic()
        for length in range(1, WARM_TOKENS + 1):
            prompt = [pick.randrange(1000, 40_000) for _ in range(length)]
            self._server.client.completions.create(model=BASE, prompt=prompt, max_tokens=1)
        self._say(f"asked {WARM_TOKENS} prompts, each a token longer, in {time.monotonic() - begun:.0f} s")

    def _retrain_again_and_again(self) -> None:
        for number in range(self.soak.wanted):
            self._sleep_until(number * self._every)
            began = self._since()
            version = self._retrain(number)
            if version is None:
                return
            swap = Swap(version, round(began, 1), round(self._since(), 1))
            self.soak.swaps.append(swap)
            limit = time.monotonic() + SERVED_SECONDS
            while self._serving() != version and time.monotonic() < limit:
                time.sleep(0.1)
            if self._serving() == version:
                swap.served = round(self._since(), 1)
                self._apps.adapter_serves.set()
            self._say(f"{version}: retrained in {swap.published - swap.began:.0f} s, served at {swap.served} s")
        self._sleep_until(max(self._seconds, self._since() + REST_SECONDS))

    def _retrain(self, number: int) -> str | None:
        """Train, publish, judge and promote a version; its name.

        What the gate does not find better than the version before, of the same rows, is promoted as by an operator who insists.
        """
        sets = [word for item in [*RETRAIN, f"recipe.seed={number}"] for word in ("--set", item)]
        code, printed, said = self._command("services.trainer", "retrain", "--json", *sets)
        if code not in {exits.DONE, exits.REFUSED}:
            self.soak.failures.append(f"retrain {number + 1}: exit code {code}: {said[-500:]}")
            return None
        version = str(json.loads(printed)["version"])
        if code == exits.REFUSED:
            number_of = version.rpartition("@")[2]
            words = ("promote", "--adapter", ADAPTER, "--version", number_of, "--force")
            code, _, said = self._command("services.registry", *words)
            if code:
                self.soak.failures.append(f"promotion of {version}: exit code {code}: {said[-500:]}")
                return None
        return version

    def _command(self, module: str, *words: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, "-m", module, *words],
            cwd=REPOSITORY,
            env=project_environment(self._data, OMP_NUM_THREADS=str(max(1, CORES - ENGINE_CORES))),
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    def _watch(self) -> None:
        say_at = SAY_SECONDS
        while not self._over.wait(self._look_every):
            sample = look(self._server.process.pid, self._server.family(), self._since())
            self.soak.samples.append(sample)
            if sample.seconds >= say_at:
                say_at += SAY_SECONDS
                held = ", ".join(f"{name} {size / 2**20:.0f} MiB" for name, size in sample.memory.items())
                answers, failed = sum(self._apps.answers.values()), len(self._apps.failures)
                self._say(
                    f"{sample.seconds:.0f} s: {held}; {sum(sample.files.values())} files; {answers} answers, {failed} failed"
                )

    def _serving(self) -> Any:
        return self._server.readiness.get("adapters", {}).get(ADAPTER, {}).get("serving")

    def _sleep_until(self, seconds: float) -> None:
        time.sleep(max(0.0, seconds - self._since()))

    def _since(self) -> float:
        return time.monotonic() - self._began


def errors_in(log: Path) -> list[str]:
    """What a log of JSON lines tells as an error, by its event, and what is no JSON: a traceback of an interpreter that ends."""
    errors = []
    for line in log.read_text().splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            if line.startswith("Traceback"):
                errors.append(line)
            continue
        if entry.get("level") in {"error", "critical"}:
            errors.append(str(entry.get("event"))[:200])
    return errors


def fresh(data: Path, base_models: Path) -> None:
    """Empty a data root, and have the base model in it."""
    shutil.rmtree(data, ignore_errors=True)
    data.mkdir(parents=True)
    (data / "models").symlink_to(base_models)
