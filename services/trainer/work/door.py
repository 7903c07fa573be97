"""The operator's door to the queue: ``make retrain`` puts a job in line, and works on the queue or looks on until it has ended."""

import time
from collections.abc import Callable
from contextlib import ExitStack

from rich.console import Console

from services.jobs.records import UNFINISHED, Job, NewJob
from services.registry.errors import RegistryBusy
from services.registry.lock import exclusive
from services.trainer.outcome import Outcome
from services.trainer.work.desk import Desk
from services.trainer.work.loop import POLL_SECONDS, work
from services.trainer.worker import Stop

_LOCK = ".retrain.lock"
_LOCK_SECONDS = 30.0
_METRICS_EVERY_SECONDS = 5.0
_ALL = 1000


class Door:
    """Has one job of the operator done.

    Attributes:
        outcome: of the job's retrain where this process worked on it.
        left: somebody else works on the job, and this process was asked to look on no longer.
    """

    def __init__(
        self, desk: Desk, do: Callable[[], Callable[[Job], Outcome | None]], stop: Stop, console: Console
    ) -> None:
        """Where nobody works on the queue, do it with what ``do`` makes; say on ``console`` what goes on."""
        self._desk, self._do, self._stop, self._console = desk, do, stop, console
        self.outcome: Outcome | None = None
        self.left = False

    def __call__(self, wanted: NewJob) -> Job:
        """Have ``wanted`` done; the job as it then is: ended, paused, or waiting where this process was asked to stop.

        Raises:
            RegistryBusy: an earlier retrain of the operator is not done yet, and somebody works on it.
        """
        with ExitStack() as held:
            with exclusive(self._desk.database.file.parent / _LOCK, "retrain", wait_seconds=_LOCK_SECONDS):
                busy = self._hold(held)
                job = self._continue_or_replace(wanted) if busy is None else self._submit(wanted, busy)
            self._say_place(job)
            if busy is not None and not self._follow(job, held):
                return self._desk.queue.get(job.id)
            self._work_until_done(job)
        return self._desk.queue.get(job.id)

    def _hold(self, held: ExitStack) -> RegistryBusy | None:
        """Be the worker while ``held`` lasts; or what says who is."""
        try:
            held.enter_context(self._desk.work.holding())
        except RegistryBusy as busy:
            return busy
        return None

    def _submit(self, wanted: NewJob, busy: RegistryBusy) -> Job:
        """Put ``wanted`` in line, unless somebody works on an earlier one."""
        for job in self._own(("queued", "running")):
            raise RegistryBusy(
                f"the operator's job {job.id} is {job.status}; {busy}; `make jobs` shows it, `make cancel JOB={job.id}` ends it"
            )
        return self._put_in_line(wanted)

    def _continue_or_replace(self, wanted: NewJob) -> Job:
        """The operator's job that was interrupted, if it was asked for with the same words; one with others makes room."""
        for job in self._own(UNFINISHED):
            if job.asked != wanted and job.status != "paused":
                self._desk.queue.cancel(job.id)
                self._console.print(f"{job.id}, which was interrupted, had other settings: it is cancelled")
        return self._put_in_line(wanted)

    def _put_in_line(self, wanted: NewJob) -> Job:
        job, new = self._desk.queue.submit(wanted)
        if not new:
            self._console.print(f"continuing {job.id}")
        return self._desk.queue.resume(job.id) if job.status == "paused" else job

    def _own(self, states: tuple[str, ...]) -> list[Job]:
        unfinished = self._desk.queue.unfinished()
        return [job for job in unfinished if job.asked.source == "operator" and job.status in states]

    def _say_place(self, job: Job) -> None:
        line = [other.id for other in self._desk.queue.unfinished() if other.status != "paused"]
        if job.id in line[1:]:
            self._console.print(f"{job.id} waits: {line.index(job.id)} before it")

    def _work_until_done(self, job: Job) -> None:
        do = self._do()

        def count(claimed: Job) -> None:
            if claimed.id != job.id:
                self._console.print(f"first {claimed.id}, of {claimed.asked.owner}")
            outcome = do(claimed)
            if claimed.id == job.id:
                self.outcome = outcome

        work(self._desk, count, self._stop, idle=lambda: None, over=lambda: not self._waits(job))

    def _waits(self, job: Job) -> bool:
        return self._desk.queue.get(job.id).status in {"queued", "running"}

    def _follow(self, job: Job, held: ExitStack) -> bool:
        """Show what happens to ``job`` while another process works on it; whether that one is gone and this one holds the queue."""
        after: str | None = None
        shown = 0.0
        while True:
            done = self._stop.signalled or not self._waits(job)
            page = self._desk.queue.events(job.id, after=after, limit=_ALL, ascending=True)
            for event in page.data:
                after = event.id
                if event.type == "metrics" and time.monotonic() - shown < _METRICS_EVERY_SECONDS:
                    continue
                shown = time.monotonic() if event.type == "metrics" else shown
                self._console.print(event.message, markup=False, highlight=False)
            if done:
                self.left = self._waits(job)
                return False
            if self._hold(held) is None:
                self._console.print("the worker is gone: this process goes on")
                return True
            time.sleep(POLL_SECONDS)
