"""The queue as the operator looks at it: who waits where, how far the running job is, what became of the last ones."""

from datetime import UTC, datetime

import msgspec
from rich.console import Console
from rich.table import Table

from services.common.consoles import unbroken
from services.jobs.queue import Queue
from services.jobs.records import Job

_ENDED = 10
_EVENTS = 50


class ListedJob(msgspec.Struct, frozen=True, kw_only=True):
    """One job.

    Attributes:
        place: how many are before it; None where it does not wait.
        step: of the training under way, and ``steps`` of how many.
        verdict: the version it made and what the gate said, or why it failed.
        finish: when it ended, or is expected to; seconds since 1970.
    """

    id: str
    status: str
    place: int | None
    adapter: str
    owner: str
    created: int
    step: int | None
    steps: int | None
    verdict: str
    finish: int | None


def list_jobs(queue: Queue) -> list[ListedJob]:
    """Jobs that have not ended, in the order of their turn, then the last that have, newest first."""
    waiting = queue.unfinished()
    line = [job.id for job in waiting if job.status != "paused"]
    ended = [job for job in queue.list(limit=_ENDED + len(waiting)).data if job.finished_at is not None]
    return [_listed(queue, job, line) for job in [*waiting, *ended[:_ENDED]]]


def print_jobs(jobs: list[ListedJob], console: Console) -> None:
    """Print them for people."""
    table = Table("job", "state", "adapter", "by", "asked", "progress", "verdict", box=None, header_style="bold")
    for job in jobs:
        state = f"{job.status}, {job.place} before it" if job.place else job.status
        progress = f"step {job.step} of {job.steps}" if job.step is not None else "-"
        if job.finish is not None and job.status == "running":
            progress += f", until {_time(job.finish)}"
        table.add_row(job.id, state, job.adapter, job.owner, _time(job.created), progress, job.verdict or "-")
    unbroken(console).print(table)


def _listed(queue: Queue, job: Job, line: list[str]) -> ListedJob:
    step, steps = _progress(queue, job)
    return ListedJob(
        id=job.id,
        status=job.status,
        place=line.index(job.id) if job.status == "queued" else None,
        adapter=job.asked.adapter,
        owner=job.asked.owner,
        created=job.created_at,
        step=step,
        steps=steps,
        verdict=_verdict(job),
        finish=job.finished_at or job.estimated_finish,
    )


def _progress(queue: Queue, job: Job) -> tuple[int | None, int | None]:
    """The newest step that the job's events tell of."""
    for event in queue.events(job.id, limit=_EVENTS).data:
        if event.type == "metrics" and event.data is not None:
            return event.data["step"], event.data["total_steps"]
    return None, None


def _verdict(job: Job) -> str:
    if job.failure is not None:
        reason = job.failure.message.partition("\n")[0]
        return f"{job.version}: {reason}" if job.version else reason
    return f"{job.fine_tuned_model} passed" if job.fine_tuned_model else job.version or ""


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(sep=" ", timespec="seconds").removesuffix("+00:00")
