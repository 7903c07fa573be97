"""A job has a process of its own whose death is not the worker's; one may wait as a spare, as good as one that begins now."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from services.common.settings import SettingsError
from services.jobs.records import Failure, Job
from services.registry.errors import RegistryBusy
from services.trainer.work.process import JobProcesses
from tests.conftest import REPOSITORY
from tests.support.processes import lives, until
from tests.unit.trainer.work.office import Office

OPEN = "import sys, os, time, signal; from pathlib import Path; from services.common.paths import DataPaths; "
OPEN += "from services.trainer.work.desk import Desk; desk = Desk(DataPaths.from_environment()); job = sys.stdin.readline().strip(); "


def processes(office: Office, program: str, **named: Any) -> JobProcesses:
    """Processes that run ``program``, with a spare that nothing makes stale unless ``named`` says otherwise."""
    usual: dict[str, Any] = {"warm": lambda: True, "surroundings": lambda: None}
    return JobProcesses(office.desk, office.stop, program=("-c", OPEN + program), **usual | named)


def done_by(program: str, office: Office, monkeypatch: pytest.MonkeyPatch) -> Job:
    """The operator's job after a process that runs ``program`` had it."""
    monkeypatch.setenv("WHETSTONE_DATA", str(office.house.paths.root))
    office.submit()
    with office.desk.work.holding() as held:
        job = office.desk.work.next()
        assert job is not None
        processes(office, program).holding(held)(job)
    return office.desk.queue.get(job.id)


@pytest.mark.parametrize(
    ("program", "code"),
    [("os.kill(os.getpid(), signal.SIGKILL)", -9), ("raise SystemExit(3)", 3)],
    ids=["killed", "ended"],
)
def test_a_job_whose_process_dies_fails_and_the_worker_lives(
    office: Office, program: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a job which kills its process cannot do so again and again."""
    failed = done_by(program, office, monkeypatch)
    assert failed.failure is not None
    assert failed.failure.message.startswith(f"the job's process died (exit code {code})")


def test_what_a_jobs_process_says_of_its_end_stands(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its exit code."""
    says = "from services.jobs.records import Failure; desk.work.fail(job, Failure(code='x', message='y')); raise SystemExit(3)"
    assert done_by(says, office, monkeypatch).failure == Failure(code="x", message="y")


def test_a_worker_that_is_asked_to_end_asks_its_jobs_process_and_puts_the_job_back(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though that one does not listen yet, as while torch is imported."""
    signal.signal(signal.SIGUSR1, office.stop.handle)
    deaf = "os.kill(os.getppid(), signal.SIGUSR1); time.sleep(60)"
    assert done_by(deaf, office, monkeypatch).status == "queued"


def test_a_jobs_process_that_outlives_its_worker_keeps_others_from_the_queue(office: Office) -> None:
    """Two trainings on one card would both fail; the kernel frees the queue when the last of the two is gone."""
    office.submit()
    worker_of_its_own = (
        "from services.trainer.work.process import JobProcesses; from services.trainer.worker import Stop\n"
        "with desk.work.holding() as held:\n"
        "    lives = 'import os, time; print(os.getpid(), flush=True); time.sleep(60)'\n"
        "    of_its_own = JobProcesses(desk, Stop(), warm=bool, surroundings=bool, program=('-c', lives))\n"
        "    of_its_own.holding(held)(desk.work.next())\n"
    )
    environment = os.environ | {"WHETSTONE_DATA": str(office.house.paths.root)}
    words = [sys.executable, "-c", OPEN + worker_of_its_own, "any"]
    worker = subprocess.Popen(words, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, text=True)
    assert worker.stdout is not None
    left = int(worker.stdout.readline())
    worker.kill()
    worker.wait()
    with pytest.raises(RegistryBusy), office.desk.work.holding():
        pass
    os.kill(left, signal.SIGKILL)
    worker.stdout.read()  # ends when its last writer is gone
    worker.stdout.close()
    with office.desk.work.holding():
        assert [job.status for job in office.desk.queue.unfinished()] == ["queued"]


DIARY = """
import os, sys
def note(what):
    with open({diary!r}, "a") as diary: diary.write(f"{{os.getpid()}} {{what}}\\n")
note("began")
job = sys.stdin.readline().strip()
note(job or "no job")
"""


class Spares:
    """Processes that keep a diary, and what decides about them.

    Attributes:
        warm: the setting.
        state: of what a spare depends on.
    """

    def __init__(self, office: Office, again_seconds: float = 60.0) -> None:
        self._office, self._diary = office, office.house.paths.root / "diary"
        self.warm, self.state = True, 1
        self.processes = JobProcesses(
            office.desk,
            office.stop,
            warm=lambda: self.warm,
            surroundings=lambda: self.state,
            program=("-c", DIARY.format(diary=str(self._diary))),
            again_seconds=again_seconds,
        )

    def ready(self) -> int:
        """Have a spare get ready, and wait for it; its process."""
        before = len(self.notes)
        self.processes.get_ready()
        until(lambda: len(self.notes) > before)
        return self.notes[-1][0]

    def do(self) -> str:
        """Have a job done; its id."""
        self._office.submit()
        job = self._office.desk.work.next()
        assert job is not None
        self.processes(job)
        return job.id

    @property
    def notes(self) -> list[tuple[int, str]]:
        lines = self._diary.read_text().splitlines() if self._diary.exists() else []
        return [(int(line.split()[0]), line.partition(" ")[2]) for line in lines]


def kill(process: int) -> None:
    """As the kernel does when memory is full."""
    os.kill(process, signal.SIGKILL)
    until(lambda: not lives(process))


@pytest.fixture
def spares(office: Office) -> Iterator[Spares]:
    spares = Spares(office)
    yield spares
    spares.processes.dismiss()


def test_a_spare_does_the_job_that_comes_and_the_next_job_has_another_process(spares: Spares) -> None:
    spare = spares.ready()
    first, second = spares.do(), spares.do()
    assert (spare, first) in spares.notes
    assert (spare, second) not in spares.notes
    assert second in {note for _, note in spares.notes}


def test_without_the_setting_there_is_no_spare_and_one_that_waits_goes_when_settings_change(spares: Spares) -> None:
    spare = spares.ready()
    spares.warm, spares.state = False, 2
    spares.processes.get_ready()
    assert not lives(spare)
    assert len(spares.notes) == 1
    assert spares.do() == spares.notes[-1][1]


def test_a_spare_is_replaced_when_what_it_depends_on_has_changed(spares: Spares) -> None:
    spare = spares.ready()
    spares.processes.get_ready()
    assert lives(spare), "nothing has changed"
    spares.state = 2
    assert spares.ready() != spare
    assert not lives(spare)


def test_a_job_is_not_given_to_a_spare_whose_surroundings_changed_just_now(spares: Spares) -> None:
    spare = spares.ready()
    spares.state = 2
    job = spares.do()
    assert (spare, job) not in spares.notes
    assert spares.notes[-1][1] == job
    assert not lives(spare)


def test_a_spare_that_was_killed_is_replaced_and_costs_no_job(office: Office) -> None:
    spares = Spares(office, again_seconds=0.0)
    for _ in range(2):
        kill(spares.ready())
    job = spares.do()
    assert spares.notes[-1][1] == job


def test_spares_that_die_at_once_are_not_started_again_and_again(spares: Spares) -> None:
    kill(spares.ready())
    for _ in range(3):
        spares.processes.get_ready()
    assert len(spares.notes) == 1


def test_settings_that_cannot_be_read_cost_the_spare_and_not_the_worker(office: Office) -> None:
    def broken() -> bool:
        raise SettingsError("not TOML")

    processes(office, "", warm=broken).get_ready()


def test_a_spare_that_is_dismissed_is_gone(spares: Spares) -> None:
    spare = spares.ready()
    spares.processes.dismiss()
    assert not lives(spare)
    assert spares.notes == [(spare, "began")]
