"""The worker's day: jobs in their order, each in a process of its own whose death is not the worker's."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from services.jobs.records import Failure, Job
from services.registry.errors import RegistryBusy
from services.trainer.work.loop import InProcess, serve, work
from tests.conftest import REPOSITORY
from tests.unit.trainer.house import FakeWorker
from tests.unit.trainer.work.office import Office

OPEN = "import sys, os, time, signal; from pathlib import Path; from services.common.paths import DataPaths; "
OPEN += "from services.trainer.work.desk import Desk; desk = Desk(DataPaths.from_environment()); job = sys.argv[1]; "


def done_by(program: str, office: Office, monkeypatch: pytest.MonkeyPatch) -> Job:
    """The operator's job after a process that runs ``program`` had it."""
    monkeypatch.setenv("WHETSTONE_DATA", str(office.house.paths.root))
    office.submit()
    with office.desk.work.holding() as held:
        job = office.desk.work.next()
        assert job is not None
        InProcess(office.desk, office.stop, held, program=("-c", OPEN + program))(job)
    return office.desk.queue.get(job.id)


def test_jobs_are_done_in_the_order_in_which_they_came(office: Office) -> None:
    """One at a time; an app's and the operator's alike."""
    ids = [office.submit(overrides=[f"recipe.seed={number}"]).id for number in range(3)]
    seen: list[str] = []
    do = office.worker(FakeWorker())

    def note(job: Job) -> None:
        assert [other.status for other in office.desk.queue.unfinished()].count("running") == 1
        seen.append(job.id)
        do(job)

    work(office.desk, note, office.stop, idle=lambda: None, over=lambda: len(seen) == 3)
    assert seen == ids


def test_an_idle_worker_tidies_up_and_ends_when_it_is_asked_to(office: Office) -> None:
    def tidy() -> None:
        office.stop.handle(signal.SIGTERM, None)

    serve(office.desk, lambda _: office.worker(FakeWorker()), office.stop, idle=tidy)
    with office.desk.work.holding():
        pass  # nobody holds it any more


def test_while_another_process_works_on_the_queue_a_worker_waits(office: Office) -> None:
    """`make retrain` was there first; when it is done, the worker goes on."""
    job = office.submit()
    thread = threading.Thread(
        target=serve,
        args=(office.desk, lambda _: office.worker(FakeWorker()), office.stop),
        kwargs={"idle": lambda: office.stop.handle(signal.SIGTERM, None)},
    )
    with office.desk.work.holding():
        thread.start()
        time.sleep(0.3)
        assert office.desk.queue.get(job.id).status == "queued"
    thread.join(timeout=20)
    assert office.desk.queue.get(job.id).status == "succeeded"


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
        "from services.trainer.work.loop import InProcess; from services.trainer.worker import Stop\n"
        "with desk.work.holding() as held:\n"
        "    lives = 'import os, time; print(os.getpid(), flush=True); time.sleep(60)'\n"
        "    InProcess(desk, Stop(), held, program=('-c', lives))(desk.work.next())\n"
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


def test_the_real_worker_waits_for_jobs_and_ends_with_0_when_it_is_asked_to(tmp_path: Path) -> None:
    environment = os.environ | {"WHETSTONE_DATA": str(tmp_path), "WHETSTONE_CONFIG": str(REPOSITORY / "config")}
    worker = subprocess.Popen(
        [sys.executable, "-m", "services.trainer", "work"],
        cwd=REPOSITORY,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert worker.stderr is not None
    assert "waiting for jobs" in worker.stderr.readline()
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(timeout=20) == 0
    worker.stderr.close()
