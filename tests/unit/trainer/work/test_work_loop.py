"""The worker's day: jobs in their order, one at a time."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from services.jobs.records import Job
from services.trainer.work.loop import serve, work
from tests.conftest import REPOSITORY
from tests.unit.trainer.house import FakeWorker
from tests.unit.trainer.work.office import Office


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
