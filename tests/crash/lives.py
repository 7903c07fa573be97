"""Real processes to be killed: each life is a fork of one process that has everything imported and nothing begun.

What they do is the services' own, but for the judge of jobs, and the training of those that are killed by the hundred, which only writes
files, as the engine that serves only says its adapter's name. The model that is trained is tiny.
"""

import asyncio
import io
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import httpx
import msgspec
import torch
from rich.console import Console

from services.base_model.identity import BaseModelSettings, BaseSettings
from services.common.killpoints import arm
from services.common.paths import DataPaths
from services.jobs.records import NewJob
from services.registry.manifest import ProbePrompt
from services.trainer.training.job import Event, Finished, Interrupted, ScoreBase, TrainingJob
from services.trainer.training.packed_backend import load as load_packed
from services.trainer.training.score import Scorer
from services.trainer.work.desk import Desk
from services.trainer.work.one import Helpers, JobWork
from services.trainer.worker import Stop
from tests.conftest import REPOSITORY
from tests.unit.server.process import Process
from tests.unit.trainer.house import FakeJudge, FakeWorker
from tests.unit.trainer.prober import FakeProber
from tests.unit.trainer.tiny import Watcher
from tests.unit.trainer.work.office import rows

BASE = BaseSettings(base_model=BaseModelSettings(name="tiny-base", package="tiny"))
ADAPTER = "acme"
KEEP = 2
PROBE = [72, 101, 108, 108, 111]


# As long as a tiny model's training is to be, with a checkpoint after each update.
TINY = ("max_length=256", "max_steps=4", "rows_per_step=2", "warmup_steps=0")
LEARNING = (*(f"recipe.{setting}" for setting in TINY), "checkpoints.every_steps=1")


class LearningWorker(FakeWorker):
    """The real backend, in the process that is to be killed."""

    def __call__(self, job: TrainingJob, _folder: Path, on_event: Callable[[Event], None]) -> Finished | Interrupted:
        """See ``Worker``."""
        torch.set_num_threads(1)
        watcher = Watcher(tell=on_event)
        load_packed(job.outline, watcher)(job)
        last = watcher.events[-1]
        assert isinstance(last, Finished)
        return last


class LearningProber(FakeProber):
    """Scores a probe's text with base model and adapter, loaded back from their files."""

    def __call__(self, *told: Any) -> list[ProbePrompt]:
        """See ``Prober``."""
        base_folder, adapter_folder, *_ = told
        [(base, adapter)] = Scorer(ScoreBase(base_folder=base_folder, prompts=[PROBE]))(adapter_folder).pairs
        return [ProbePrompt(token_ids=PROBE, base_logprobs=base, adapter_logprobs=adapter)]


def work(root: Path, mark: str) -> None:
    """An app sends rows and asks for a job, a worker does it, the app takes its rows back. Whoever was cut off begins again."""
    _work(root, mark, Helpers(FakeWorker(), FakeProber()))


def learn(root: Path, mark: str) -> None:
    """The same with a real training, from the newest whole checkpoint, and a real probe."""
    _work(root, mark, Helpers(LearningWorker(), LearningProber()), *LEARNING)


def _work(root: Path, mark: str, helpers: Helpers, *overrides: str) -> None:
    paths = DataPaths(root)
    desk = Desk(paths)
    desk.files.sweep(older_than=0.0)
    name = f"{mark}.jsonl"
    mine = [file.id for file in desk.files.list(owner="app", purpose="fine-tune").data if file.filename == name]
    if not mine:
        content = desk.files.scratch()
        content.write_text(rows(20, mark))
        mine = [desk.files.add(content, filename=name, purpose="fine-tune", owner="app").id]
    asked = NewJob(source="api", owner="app", model="tiny-base", adapter=ADAPTER, training_file=mine[0])
    settings = [f"versions.keep={KEEP}", *overrides]
    job, _ = desk.queue.submit(msgspec.structs.replace(asked, idempotency_key=mark, overrides=settings))
    do = JobWork(
        desk,
        paths,
        base=lambda: BASE,
        helpers=helpers,
        judge=lambda _: FakeJudge(),
        stop=Stop(),
        console=Console(file=io.StringIO()),
    )
    with desk.work.holding():
        while (waiting := desk.work.next()) is not None:
            do(waiting)
    if desk.queue.get(job.id).status == "succeeded":
        desk.files.delete(mine[0])


def serve(root: Path, wanted: str) -> None:
    """A server, until it is ready and says that it serves what is wanted."""

    async def look() -> None:
        async with Process(root) as process, httpx.AsyncClient() as http:
            readiness = (await http.get(f"{process.url}/readyz")).json()
            assert readiness["status"] == "ready", readiness
            assert readiness["adapters"][ADAPTER]["serving"] == wanted, readiness

    asyncio.run(look())


LIVES = {life.__name__: life for life in (work, learn, serve)}


class Lives:
    """Lives, one after the other.

    Attributes:
        places: at which one was killed, each with how often.
    """

    def __init__(self) -> None:
        self.places: dict[str, int] = {}
        self._parent = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.lives"],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._parent.communicate()

    def live(self, life: str, root: Path, word: str = "", kill_at: str = "") -> bool:
        """Have one lived; whether it came to its end. One that fails by itself fails the test with what it said."""
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        said = root / "said"
        self._parent.stdin.write(json.dumps([life, str(root), word, kill_at, str(said)]) + "\n")
        self._parent.stdin.flush()
        code = int(self._parent.stdout.readline())
        last = said.read_text()
        assert code in {0, -9}, last[-3000:]
        if code == 0:
            return True
        place = last.rpartition("killed at ")[2].strip()
        self.places[place] = self.places.get(place, 0) + 1
        return False


def main() -> None:
    """Fork a life for each line; tell how it ended."""
    for line in sys.stdin:
        life, root, word, kill_at, said = json.loads(line)
        pid = os.fork()
        if pid == 0:
            descriptor = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
            code = 0
            try:
                arm(kill_at)
                LIVES[life](Path(root), word)
            except BaseException:  # noqa: BLE001 - told by whoever reads it
                traceback.print_exc()
                code = 1
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
