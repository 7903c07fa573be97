"""A worker that is started before its job is known does that job, or is gone."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from services.trainer.training.job import Finished, Foreseen, Interrupted, TrainingJob
from services.trainer.worker import ProcessWorker, Stop
from tests.conftest import REPOSITORY
from tests.support.processes import lives, until

# Writes down who it is and what it is told, one line each; loads for an outline, and trains when it has a job.
PROGRAM = """
import json, os, sys, time
from pathlib import Path
folder, diary = Path(sys.argv[1]), Path({diary!r})
def note(what):
    with diary.open('a') as stream: stream.write(what + '\\n')
told = dict(announced=', announced', foreseen=', foreseen')
note(f'{{os.getpid()}} began' + ''.join(words for name, words in told.items() if (folder / (name + '.json')).exists()))
print('before', flush=True)
pipe = open(folder / 'events', 'w', buffering=1)
for order, what in (('outline', 'loads'), ('handover', 'trains')):
    while not (folder / (order + '.json')).exists(): time.sleep(0.01)
    note(f'{{os.getpid()}} {{what}}')
pipe.write(json.dumps(dict(type='finished', steps=2, train_loss=1.0, holdout_loss=None, update_norm=1.0, tokens=9, seconds=1.0, backend='x')) + '\\n')
"""


class Bench:
    """A worker whose processes keep a diary."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.stop, self._diary = folder, Stop(), folder / "diary"
        self.worker = self.made()

    def made(self, cards: int = 1) -> ProcessWorker:
        """A worker that sees so many cards."""
        program = ("-c", PROGRAM.format(diary=str(self._diary)))
        return ProcessWorker(self.stop, self.folder / "cache", program=program, cards=lambda: ["0"] * cards)

    def run(self, job: TrainingJob) -> Finished | Interrupted:
        """Have ``job`` done."""
        ended = self.worker(job, self.folder, lambda _: None)
        self.worker.settle()
        return ended

    @property
    def diary(self) -> list[str]:
        """What the processes wrote, with a letter for each process."""
        lines = self._diary.read_text().splitlines() if self._diary.exists() else []
        letters = dict(zip(dict.fromkeys(line.split()[0] for line in lines), "abc", strict=False))
        return [f"{letters[line.split()[0]]} {line.partition(' ')[2]}" for line in lines]

    def wait(self, lines: int) -> int:
        """Wait for so many lines; the process that wrote the last."""
        until(lambda: len(self.diary) >= lines)
        return int(self._diary.read_text().splitlines()[-1].split()[0])


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.worker.dismiss()


def test_a_worker_begins_when_a_job_is_announced_loads_when_it_is_expected_and_trains_when_it_comes(
    bench: Bench, job: TrainingJob
) -> None:
    """What it is told before the rows have passed is not yet to load the base model, however long that takes."""
    bench.worker.announce(job.outline)
    bench.wait(1)
    time.sleep(0.2)
    assert bench.diary == ["a began, announced"]
    bench.worker.expect(job.outline)
    bench.wait(2)
    assert isinstance(bench.run(job), Finished)
    assert bench.diary == ["a began, announced", "a loads", "a trains"]


def test_a_spare_worker_does_the_job_that_comes(bench: Bench, job: TrainingJob) -> None:
    bench.worker.start()
    bench.wait(1)
    bench.worker.announce(job.outline)
    assert isinstance(bench.run(job), Finished)
    assert bench.diary == ["a began", "a loads", "a trains"]


def foreseen(job: TrainingJob, **recipe: object) -> Foreseen:
    """That a job like this one comes, but for some of its recipe."""
    told = msgspec.structs.replace(job.outline, recipe=msgspec.structs.replace(job.recipe, **recipe))
    return Foreseen(**msgspec.structs.asdict(told))


def test_a_spare_worker_that_foresees_a_job_does_whatever_job_comes(bench: Bench, job: TrainingJob) -> None:
    """What was foreseen wrongly is loaded anew by the worker itself."""
    bench.worker.start(foreseen(job, seed=job.recipe.seed + 1))
    bench.wait(1)
    assert isinstance(bench.run(job), Finished)
    assert bench.diary == ["a began, foreseen", "a loads", "a trains"]


def test_a_job_with_unsloth_is_not_foreseen(bench: Bench, job: TrainingJob) -> None:
    """It has to be imported before what the others need is."""
    bench.worker.start(foreseen(job, backend="unsloth"))
    bench.wait(1)
    assert bench.diary == ["a began"]


def test_every_job_has_a_process_of_its_own(bench: Bench, job: TrainingJob) -> None:
    for _ in range(2):
        bench.worker.expect(job.outline)
        bench.run(job)
    assert bench.diary == ["a began, announced", "a loads", "a trains", "b began, announced", "b loads", "b trains"]


def test_a_worker_that_died_before_its_job_is_replaced(bench: Bench, job: TrainingJob) -> None:
    bench.worker.start()
    process = bench.wait(1)
    os.kill(process, signal.SIGKILL)
    until(lambda: not lives(process))
    assert isinstance(bench.run(job), Finished)
    assert bench.diary == ["a began", "b began, announced", "b loads", "b trains"]


def test_a_job_that_differs_from_what_was_expected_has_another_worker(bench: Bench, job: TrainingJob) -> None:
    bench.worker.announce(job.outline)
    process = bench.wait(1)
    bench.run(msgspec.structs.replace(job, base_folder=job.base_folder / "another"))
    assert bench.diary == ["a began, announced", "b began, announced", "b loads", "b trains"]
    assert not lives(process)


def test_unsloth_is_imported_by_a_worker_that_has_imported_nothing_else(bench: Bench, job: TrainingJob) -> None:
    """It patches what is imported after it."""
    bench.worker.start()
    process = bench.wait(1)
    bench.worker.announce(
        msgspec.structs.replace(job.outline, recipe=msgspec.structs.replace(job.recipe, backend="unsloth"))
    )
    bench.wait(2)
    assert bench.diary == ["a began", "b began, announced"]
    assert not lives(process)


def test_where_there_are_several_cards_no_worker_begins_before_a_job_says_on_how_many(bench: Bench) -> None:
    worker = bench.made(cards=2)
    worker.start()
    worker.dismiss()
    assert bench.diary == []


def test_a_worker_that_is_dismissed_is_gone(bench: Bench, job: TrainingJob) -> None:
    bench.worker.announce(job.outline)
    process = bench.wait(1)
    bench.worker.dismiss()
    assert not lives(process)


def test_after_a_request_to_stop_no_worker_begins(bench: Bench, job: TrainingJob) -> None:
    bench.stop.ask()
    bench.worker.expect(job.outline)
    assert bench.run(job) == Interrupted(step=0)
    assert bench.diary == []


def test_what_a_worker_printed_before_its_job_is_in_the_jobs_log(bench: Bench, job: TrainingJob) -> None:
    bench.worker.start()
    bench.wait(1)
    bench.run(job)
    assert (bench.folder / "worker.log").read_text() == "before\n"


def test_a_spare_worker_ends_when_its_trainer_is_killed(tmp_path: Path) -> None:
    """The real one; whatever it is about."""
    program = (
        "import time; from pathlib import Path; from services.trainer.worker import ProcessWorker, Stop\n"
        f"worker = ProcessWorker(Stop(), Path({str(tmp_path)!r}), cards=list); worker.start()\n"
        "print(worker._launched.child.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    ) as trainer:
        assert trainer.stdout is not None
        process = int(trainer.stdout.readline())
        assert lives(process)
        trainer.kill()
    until(lambda: not lives(process))
