"""The queue: one place in line per request, one worker, states that a race cannot tear."""

import tempfile
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from services.jobs.database import Database
from services.jobs.errors import JobUnknown, WrongState
from services.jobs.queue import Queue
from services.jobs.records import UNFINISHED, Failure, Job, NewJob
from services.jobs.work import Work
from services.registry.errors import RegistryBusy

ASKED = NewJob(source="api", owner="app", model="tiny", adapter="acme", training_file="file-1")


def _submit(queue: Queue, **fields: Any) -> Job:
    return queue.submit(msgspec.structs.replace(ASKED, **fields))[0]


def _succeed(work: Work, job: Job, model: str = "acme@1") -> None:
    work.succeed(
        job.id, model=model, step=3, metrics={"train_loss": 0.5}, result_files=["file-9"], trained_tokens=12, outcome={}
    )


def test_request_sent_twice_is_one_job_until_it_ends(queue: Queue, work: Work) -> None:
    """A client that tries again after a lost answer does not train twice; after the end the same is a new wish."""
    first, new = queue.submit(ASKED)
    assert new
    assert queue.submit(ASKED) == (first, False)
    assert _submit(queue, seed=1).id != first.id
    assert _submit(queue, owner="other").id != first.id
    with work.holding():
        assert work.next() is not None
        _succeed(work, first)
    assert _submit(queue).id != first.id


def test_idempotency_key_outlives_the_job(queue: Queue, work: Work) -> None:
    """The same key of the same owner is the same job for ever, whatever the body says."""
    first = _submit(queue, idempotency_key="k")
    with work.holding():
        assert work.next() is not None
        work.fail(first.id, Failure(code="gate_refused", message="not better"))
    assert _submit(queue, idempotency_key="k", seed=9).id == first.id
    assert _submit(queue, idempotency_key="k", owner="other").id != first.id


def test_same_request_is_the_same_job_whatever_marked_the_first(queue: Queue) -> None:
    """A key marks a request; it is no part of what is asked."""
    marked, _ = queue.submit(msgspec.structs.replace(ASKED, idempotency_key="a"))
    assert queue.submit(ASKED) == (marked, False)


def test_jobs_are_worked_on_in_order_and_one_at_a_time(queue: Queue, work: Work, database: Database) -> None:
    """First in, first out; a second worker is told who works."""
    jobs = [_submit(queue, adapter=name) for name in ("a", "b")]
    with work.holding():
        with pytest.raises(RegistryBusy, match="the trainer's worker"), Work(database).holding():
            pass
        taken = [work.next(), work.next(), work.next()]
    assert [job.id if job else None for job in taken] == [jobs[0].id, jobs[1].id, None]


def test_job_of_a_dead_worker_waits_again_first_in_line(queue: Queue, work: Work, database: Database) -> None:
    """The kernel frees the lock; the next worker goes on with the same job, and its events say what happened."""
    first, second = _submit(queue, adapter="a"), _submit(queue, adapter="b")
    with work.holding():
        assert work.next() is not None
    with Work(database).holding():
        assert queue.get(first.id).status == "queued"
        again = work.next()
        assert again is not None
        assert again.id == first.id
    assert "The worker died" in [event.message for event in queue.events(first.id).data][1]
    assert queue.get(second.id).status == "queued"


@pytest.mark.parametrize(("wish", "becomes"), [("cancel", "cancelled"), ("pause", "paused")])
def test_wish_of_a_dead_workers_job_is_kept(queue: Queue, work: Work, wish: str, becomes: str) -> None:
    """What was asked of the job holds, though its worker died before it saw the wish."""
    job = _submit(queue)
    with work.holding():
        work.next()
        getattr(queue, wish)(job.id)
    with work.holding():
        assert queue.get(job.id).status == becomes
        assert work.next() is None


def test_running_job_is_stopped_by_a_wish(queue: Queue, work: Work) -> None:
    """The worker sees it, stops, and the job is what was wished; resumed it is first to go on."""
    job = _submit(queue)
    with work.holding():
        work.next()
        assert work.wish(job.id) is None
        assert queue.pause(job.id).status == "running"
        assert work.wish(job.id) == "pause"
        assert work.stop(job.id).status == "paused"
        assert queue.resume(job.id).status == "queued"
        work.next()
        queue.cancel(job.id)
        assert work.stop(job.id).status == "cancelled"
        assert queue.get(job.id).finished_at is not None


def test_job_that_ended_while_it_was_being_cancelled_keeps_its_end(queue: Queue, work: Work) -> None:
    """Who comes too late is told so."""
    job = _submit(queue)
    with work.holding():
        work.next()
        queue.cancel(job.id)
        _succeed(work, job)
        assert work.stop(job.id).status == "succeeded"
    for change in (queue.cancel, queue.pause, queue.resume):
        with pytest.raises(WrongState, match="it is succeeded"):
            change(job.id)


def test_success_names_the_model_and_the_results(queue: Queue, work: Work) -> None:
    """Model, files, tokens and one checkpoint that can be asked for."""
    job = _submit(queue)
    with work.holding():
        work.next()
        work.expect(job.id, 2e9)
        assert queue.get(job.id).estimated_finish == 2_000_000_000
        work.published(job.id, "acme@1")
        _succeed(work, job)
    done = queue.get(job.id)
    assert (done.fine_tuned_model, done.version, done.result_files) == ("acme@1", "acme@1", ["file-9"])
    assert (done.trained_tokens, done.estimated_finish) == (12, None)
    (checkpoint,) = queue.checkpoints(job.id).data
    assert (checkpoint.model, checkpoint.step, checkpoint.metrics) == ("acme@1", 3, {"train_loss": 0.5})


def test_failure_says_why(queue: Queue, work: Work) -> None:
    """In the job and as its last event; the version that was published stays named."""
    job = _submit(queue)
    with work.holding():
        work.next()
        work.published(job.id, "acme@2")
        work.fail(job.id, Failure(code="gate_refused", message="not better", param=None))
    failed = queue.get(job.id)
    assert failed.failure == Failure(code="gate_refused", message="not better")
    assert (failed.version, failed.fine_tuned_model) == ("acme@2", None)
    last = queue.events(job.id).data[0]
    assert (last.level, last.message) == ("error", "not better")


def test_lists_go_on_where_they_ended(queue: Queue) -> None:
    """Every job once, newest first; at the end nothing more; filtered by adapter and by metadata."""
    jobs = [_submit(queue, seed=seed, adapter="ab"[seed % 2], metadata={"n": str(seed)}) for seed in range(5)]
    seen, after = [], None
    while True:
        page = queue.list(after=after, limit=2)
        seen += [job.id for job in page.data]
        after = seen[-1]
        if not page.has_more:
            break
    assert seen == [job.id for job in reversed(jobs)]
    assert [job.id for job in queue.list(adapters={"b"}).data] == [jobs[3].id, jobs[1].id]
    assert [job.id for job in queue.list(metadata={"n": "2"}).data] == [jobs[2].id]
    assert queue.list(adapters=set()).data == []


def test_unknown_ids_are_told(queue: Queue) -> None:
    """Jobs and cursors alike."""
    job = _submit(queue)
    for look in (
        lambda: queue.get("x"),
        lambda: queue.cancel("x"),
        lambda: queue.events("x"),
        lambda: queue.list(after="x"),
        lambda: queue.events(job.id, after="x"),
    ):
        with pytest.raises(JobUnknown):
            look()


class Machine(RuleBasedStateMachine):
    """Two doors and a worker that may die at any moment, against a model of one job's life."""

    @initialize()
    def begin(self) -> None:
        """One database, one job."""
        self._folder = tempfile.TemporaryDirectory()
        self.database = Database(Path(self._folder.name) / "jobs.sqlite")
        self.queue, self.work = Queue(self.database), Work(self.database)
        self.job = self.queue.submit(ASKED)[0].id
        self.hold = self.work.holding()
        self.hold.__enter__()

    def teardown(self) -> None:
        """Close what was opened."""
        if hasattr(self, "hold"):
            self.hold.__exit__(None, None, None)
            self._folder.cleanup()

    @property
    def status(self) -> str:
        """Where the job stands."""
        return self.queue.get(self.job).status

    @rule(change=st.sampled_from(["cancel", "pause", "resume"]))
    def ask(self, change: str) -> None:
        """A door asks; a job that has ended refuses everything."""
        before = self.status
        try:
            after = getattr(self.queue, change)(self.job).status
        except WrongState:
            assert before not in UNFINISHED or change in {"resume", "pause"}
        else:
            assert before in UNFINISHED
            assert after in {*UNFINISHED, "cancelled"}

    @rule()
    def take(self) -> None:
        """The worker takes what waits, and nothing else."""
        before = self.status
        job = self.work.next()
        assert (job is not None) == (before == "queued")

    @precondition(lambda self: self.status == "running")
    @rule(end=st.sampled_from(["succeed", "fail", "stop"]))
    def end(self, end: str) -> None:
        """The worker ends the job, one way or another."""
        wish = self.work.wish(self.job)
        if end == "succeed":
            _succeed(self.work, self.queue.get(self.job))
        elif end == "fail":
            self.work.fail(self.job, Failure(code="training_failed", message="x"))
        else:
            self.work.stop(self.job)
        expected = {"succeed": "succeeded", "fail": "failed"}.get(
            end, {"cancel": "cancelled", "pause": "paused"}.get(wish or "", "queued")
        )
        assert self.status == expected

    @rule()
    def die(self) -> None:
        """The worker dies and another begins."""
        self.hold.__exit__(None, None, None)
        self.hold = self.work.holding()
        self.hold.__enter__()
        assert self.status != "running"

    @invariant()
    def says_when_it_ended(self) -> None:
        """An ended job has a time of its end and no wish; one that has not ended has none."""
        if not hasattr(self, "job"):
            return
        job = self.queue.get(self.job)
        assert (job.finished_at is not None) == (job.status not in UNFINISHED)
        assert job.wish is None or job.status == "running"


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=15, stateful_step_count=12, deadline=None)
