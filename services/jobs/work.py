"""The queue as its one worker sees it: the next job, what is wished of it, how it goes, how it ends."""

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import insert, select, update

from services.jobs.database import Database
from services.jobs.queue import fetch, move, tell
from services.jobs.records import Failure, Job, Level, Wish
from services.jobs.tables import checkpoints, jobs
from services.registry.lock import exclusive

_LOCK = ".worker.lock"


class Work:
    """What a worker does to the queue. Only the holder of ``holding`` may call the rest.

    Args:
        database: open.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    @contextmanager
    def holding(self) -> Iterator[int]:
        """Be the one worker; a job that a dead one left running waits again, first in line.

        The descriptor is for a process that works on a job: while it lives, nobody else is the worker.

        Raises:
            RegistryBusy: another process is; the message says which.
            RegistryError: the lock file cannot be opened.
        """
        with exclusive(self._database.file.parent / _LOCK, "the trainer's worker") as descriptor:
            self._requeue_left_behind()
            yield descriptor

    def next(self) -> Job | None:
        """Take the oldest job that waits; None where none does."""
        with self._database.writing() as connection:
            oldest = select(jobs.c.id).where(jobs.c.status == "queued").order_by(jobs.c.number).limit(1)
            identity = connection.execute(oldest).scalar()
            if identity is None:
                return None
            job = fetch(connection, identity)
            now = int(time.time())
            move(connection, identity, ("queued",), status="running", started_at=job.started_at or now, wish=None)
            tell(
                connection,
                identity,
                "Fine-tuning job started" if job.started_at is None else "Fine-tuning job continued",
            )
            return fetch(connection, identity)

    def wish(self, identity: str) -> Wish | None:
        """What the running job was asked to do meanwhile."""
        with self._database.reading() as connection:
            return fetch(connection, identity).wish

    def tell(
        self,
        identity: str,
        message: str,
        *,
        level: Level = "info",
        data: dict[str, Any] | None = None,
        metrics: bool = False,
    ) -> None:
        """Add an event to a job; no row's content may be in it."""
        with self._database.writing() as connection:
            tell(connection, identity, message, level=level, data=data, metrics=metrics)

    def expect(self, identity: str, finish: float) -> None:
        """Note when the job is expected to end, in seconds since 1970."""
        with self._database.writing() as connection:
            move(connection, identity, ("running",), estimated_finish=int(finish))

    def published(self, identity: str, version: str) -> None:
        """Note which version came of the job, whatever the gate will say."""
        with self._database.writing() as connection:
            move(connection, identity, ("running",), version=version)

    def succeed(
        self,
        identity: str,
        *,
        model: str,
        step: int,
        metrics: dict[str, float | None],
        result_files: list[str],
        trained_tokens: int | None,
        outcome: dict[str, Any],
    ) -> None:
        """The job's model serves."""
        now = int(time.time())
        with self._database.writing() as connection:
            move(
                connection,
                identity,
                ("running",),
                status="succeeded",
                wish=None,
                finished_at=now,
                estimated_finish=None,
                version=model,
                fine_tuned_model=model,
                result_files=result_files,
                trained_tokens=trained_tokens,
                outcome=outcome,
            )
            checkpoint = {"id": f"ftckpt-{secrets.token_hex(12)}", "job_id": identity, "created_at": now}
            connection.execute(insert(checkpoints).values(**checkpoint, step=step, model=model, metrics=metrics))
            tell(connection, identity, f"New fine-tuned model created: {model}")
            tell(connection, identity, "The job has successfully completed")

    def fail(
        self,
        identity: str,
        failure: Failure,
        *,
        result_files: list[str] | None = None,
        trained_tokens: int | None = None,
        outcome: dict[str, Any] | None = None,
    ) -> None:
        """The job ends without a model that serves."""
        with self._database.writing() as connection:
            move(
                connection,
                identity,
                ("running",),
                status="failed",
                wish=None,
                finished_at=int(time.time()),
                estimated_finish=None,
                failure={"code": failure.code, "message": failure.message, "param": failure.param},
                result_files=result_files or [],
                trained_tokens=trained_tokens,
                outcome=outcome,
            )
            tell(connection, identity, failure.message, level="error", data={"code": failure.code})

    def stop(self, identity: str) -> Job:
        """The job's training stopped where it can go on: by a wish it is now cancelled or paused, else it waits again."""
        with self._database.writing() as connection:
            wish = fetch(connection, identity).wish
            values: dict[str, Any] = {"wish": None, "estimated_finish": None}
            if wish == "cancel":
                values |= {"status": "cancelled", "finished_at": int(time.time())}
            else:
                values["status"] = "paused" if wish == "pause" else "queued"
            if move(connection, identity, ("running",), **values):
                what = {"cancel": "cancelled", "pause": "paused"}.get(
                    wish or "", "interrupted; it goes on with the next worker"
                )
                tell(connection, identity, f"The job was {what}.")
            return fetch(connection, identity)

    def _requeue_left_behind(self) -> None:
        with self._database.writing() as connection:
            left = connection.execute(select(jobs.c.id).where(jobs.c.status == "running")).scalars().all()
            for identity in left:
                tell(connection, identity, "The worker died; the job goes on from its last checkpoint.", level="warn")
            connection.execute(
                update(jobs)
                .where(jobs.c.id.in_(left), jobs.c.wish == "cancel")
                .values(status="cancelled", wish=None, finished_at=int(time.time()))
            )
            connection.execute(
                update(jobs).where(jobs.c.id.in_(left), jobs.c.wish == "pause").values(status="paused", wish=None)
            )
            connection.execute(
                update(jobs).where(jobs.c.id.in_(left), jobs.c.status == "running").values(status="queued")
            )
