"""A house with a job queue: jobs of every kind, done by a worker that only writes files."""

import io
import time
from collections.abc import Callable
from typing import Any

from rich.console import Console

from services.jobs.records import Job, JobEvent, NewJob
from services.trainer.probe import Prober
from services.trainer.work.desk import Desk
from services.trainer.work.one import Helpers, JobWork
from services.trainer.worker import Stop
from tests.unit.trainer.house import FakeJudge, FakeWorker, House
from tests.unit.trainer.prober import FakeProber

ROW = '{{"prompt": "{name} {line}", "completion": "the answer {line}"}}\n'


class Office:
    """The desk of a house, and a way to have its jobs done."""

    def __init__(self, house: House) -> None:
        self.house, self.desk, self.stop = house, Desk(house.paths), Stop()
        self.console = Console(record=True, width=200, file=io.StringIO())

    def submit(self, **asked: Any) -> Job:
        """Put a job in line: the operator's where not said otherwise, with a ``metadata`` of its own."""
        usual: dict[str, Any] = {"source": "operator", "owner": "operator", "model": "tiny-base", "adapter": "acme"}
        return self.desk.queue.submit(NewJob(**usual | asked))[0]

    def submit_api(self, training: str, validation: str | None = None, **asked: Any) -> Job:
        """Put an app's job in line that trains on these texts of rows."""
        files = [self._store(text) if text is not None else None for text in (training, validation)]
        return self.submit(source="api", owner="app", training_file=files[0], validation_file=files[1], **asked)

    def _store(self, rows: str) -> str:
        content = self.desk.files.scratch()
        content.write_text(rows)
        return self.desk.files.add(content, filename="rows.jsonl", purpose="fine-tune", owner="app").id

    def worker(self, worker: FakeWorker, judge: FakeJudge | None = None, *, prober: Prober | None = None) -> JobWork:
        """What does a job with ``worker`` and ``judge``."""
        return JobWork(
            self.desk,
            self.house.paths,
            base=lambda: self.house.base,
            helpers=Helpers(worker, prober or FakeProber()),
            judge=lambda _: judge or FakeJudge(),
            stop=self.stop,
            console=self.console,
        )

    def do_next(self, worker: FakeWorker | None = None, judge: FakeJudge | None = None, **named: Any) -> Job:
        """Take the next job and have it done; the job as it then is."""
        job = self.desk.work.next()
        assert job is not None
        self.worker(worker or FakeWorker(), judge, **named)(job)
        return self.desk.queue.get(job.id)

    def events(self, job: Job) -> list[JobEvent]:
        """What happened to a job, in order."""
        events: list[JobEvent] = self.desk.queue.events(job.id, limit=1000, ascending=True).data
        return events

    def until_stopped(self, ask: Callable[[], object]) -> Callable[[], None]:
        """A moment at which somebody asks for a stop, and the worker has heard of it."""

        def wait() -> None:
            ask()
            deadline = time.monotonic() + 20
            while not self.stop.requested:
                assert time.monotonic() < deadline, "nobody told the worker"
                time.sleep(0.01)

        return wait


def rows(count: int, name: str = "question") -> str:
    """So many rows as JSONL."""
    return "".join(ROW.format(name=name, line=line) for line in range(count))
