"""``make retrain`` as a door to the queue: it works where nobody does, looks on where somebody does, and never trains beside another."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from services.jobs.records import Job, NewJob
from services.registry.errors import RegistryBusy
from services.trainer import exits
from services.trainer.work.door import Door
from tests.unit.trainer.house import FakeJudge, FakeWorker
from tests.unit.trainer.work.office import Office, rows

WANTED = NewJob(source="operator", owner="operator", model="tiny-base", adapter="acme")
OTHER = NewJob(source="operator", owner="operator", model="tiny-base", adapter="acme", overrides=["recipe.seed=1"])


class Caller:
    """An operator at the door of an office."""

    def __init__(self, office: Office, worker: FakeWorker | None = None, judge: FakeJudge | None = None) -> None:
        self.office = office
        self.door = Door(office.desk, lambda: office.worker(worker or FakeWorker(), judge), office.stop, office.console)

    def __call__(self, wanted: NewJob = WANTED) -> tuple[Job, str]:
        """Retrain; the job, and what was said."""
        job = self.door(wanted)
        return job, self.office.console.export_text()


@contextmanager
def somebody_working(office: Office) -> Iterator[Office]:
    """A worker that holds the queue, and does what the block has it do."""
    elsewhere = Office(office.house)
    with elsewhere.desk.work.holding():
        yield elsewhere


def test_where_nobody_works_the_door_does(office: Office) -> None:
    caller = Caller(office)
    job, said = caller()
    assert (job.status, job.fine_tuned_model, exits.exit_of(job)) == ("succeeded", "acme@1", exits.DONE)
    assert caller.door.outcome is not None
    assert f"run {caller.door.outcome.run}" in said


def test_a_second_retrain_ends_at_once_and_says_which_job_and_who_works_on_it(office: Office) -> None:
    """Queued or running, with the same settings or others; nothing is put in line."""
    with somebody_working(office):
        first = office.submit()
        for wanted in (WANTED, OTHER):
            with pytest.raises(RegistryBusy, match=rf"{first.id} is queued; .* held by: the trainer's worker, process"):
                Caller(office)(wanted)
        office.desk.work.next()
        with pytest.raises(RegistryBusy, match=f"{first.id} is running"):
            Caller(office)()
    assert [job.id for job in office.desk.queue.unfinished()] == [first.id]


def test_jobs_that_were_first_are_first(office: Office) -> None:
    """The door says its place, and works on the others until its own is done; not on what came later."""
    before = office.submit_api(rows(20), adapter="sales")
    job, said = Caller(office)()
    assert f"{job.id} waits: 1 before it" in said
    assert f"first {before.id}, of app" in said
    assert office.desk.queue.get(before.id).fine_tuned_model == "sales@1"
    assert job.fine_tuned_model == "acme@1"


def test_an_interrupted_retrain_is_continued_by_the_next(office: Office) -> None:
    """The same job, the same run."""
    signal.signal(signal.SIGUSR1, office.stop.handle)
    stopped = FakeWorker(stop_at=2, before=lambda: signal.raise_signal(signal.SIGUSR1))
    first = Caller(office, stopped)
    job, _ = first()
    assert (job.status, exits.exit_of(job)) == ("queued", exits.INTERRUPTED)
    assert first.door.outcome is not None
    assert first.door.outcome.steps == 2
    again = Office(office.house)
    second = Caller(again)
    done, said = second()
    assert (done.id, done.status) == (job.id, "succeeded")
    assert second.door.outcome is not None
    assert second.door.outcome.run == first.door.outcome.run
    assert f"continuing {job.id}" in said


def test_an_interrupted_retrain_with_other_settings_makes_room(office: Office) -> None:
    """As ever: what is asked for now is what is trained."""
    old = office.submit()
    job, said = Caller(office)(OTHER)
    assert office.desk.queue.get(old.id).status == "cancelled"
    assert f"{old.id}, which was interrupted, had other settings: it is cancelled" in said
    assert (job.status, job.id != old.id) == ("succeeded", True)


def test_a_paused_retrain_is_resumed_by_the_same_words(office: Office) -> None:
    paused = office.submit()
    office.desk.queue.pause(paused.id)
    assert Caller(office)()[0].id == paused.id


@pytest.mark.parametrize(
    ("judge", "code"), [(FakeJudge(), exits.DONE), (FakeJudge("worse"), exits.REFUSED)], ids=["passed", "refused"]
)
def test_where_somebody_works_the_door_looks_on(office: Office, judge: FakeJudge, code: int) -> None:
    """It shows what happens, and ends as if it had worked itself."""
    with somebody_working(office) as elsewhere:
        caller = threading.Thread(target=lambda: ended.append(Caller(office)()))
        ended: list[tuple[Job, str]] = []
        caller.start()
        _until(lambda: bool(elsewhere.desk.queue.unfinished()))
        elsewhere.do_next(judge=judge)
        caller.join(timeout=20)
    [(job, said)] = ended
    assert exits.exit_of(job) == code
    assert "Step 1/4" in said
    assert "acme@1 is published" in said


def test_who_looks_on_can_leave_and_the_job_goes_on(office: Office) -> None:
    with somebody_working(office) as elsewhere:
        office.stop.handle(signal.SIGINT, None)
        caller = Caller(office)
        job, _ = caller()
        assert (caller.door.left, job.status) == (True, "queued")
        assert elsewhere.do_next().id == job.id


def test_where_the_worker_goes_away_who_looks_on_goes_on(office: Office) -> None:
    """A job that it left running included."""
    ended: list[tuple[Job, str]] = []
    caller = threading.Thread(target=lambda: ended.append(Caller(office)()))
    with somebody_working(office) as elsewhere:
        caller.start()
        _until(lambda: bool(elsewhere.desk.queue.unfinished()))
        assert elsewhere.desk.work.next() is not None
    caller.join(timeout=20)
    [(job, said)] = ended
    assert job.status == "succeeded"
    assert "the worker is gone: this process goes on" in said


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)
