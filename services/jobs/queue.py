"""The queue as its two doors see it: jobs are submitted, looked at, cancelled, paused and resumed."""

import hashlib
import secrets
import time
from typing import Any

import msgspec
from sqlalchemy import Connection, exists, func, insert, select, update

from services.jobs.database import Database
from services.jobs.errors import JobUnknown, WrongState
from services.jobs.pages import page_of
from services.jobs.records import (
    UNFINISHED,
    Checkpoint,
    Failure,
    Job,
    JobEvent,
    Level,
    NewJob,
    Page,
    Status,
    Wish,
)
from services.jobs.tables import checkpoints, events, jobs


class Queue:
    """The jobs of one database. Every change of a job's state is one guarded statement: a race has one winner.

    Args:
        database: open.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def submit(self, asked: NewJob) -> tuple[Job, bool]:
        """Put a job at the queue's end, unless it is there already.

        The same ``idempotency_key`` of the same owner is the same job, whatever became of it. Without a key, the same request
        of the same owner is the same job while that one has not ended.

        Returns:
            the job, and whether it is new.
        """
        fingerprint = _fingerprint(asked)
        with self._database.writing() as connection:
            same = jobs.c.owner == asked.owner
            if asked.idempotency_key is not None:
                same &= jobs.c.idempotency_key == asked.idempotency_key
            else:
                same &= (jobs.c.fingerprint == fingerprint) & jobs.c.status.in_(UNFINISHED)
            row = connection.execute(select(jobs).where(same)).mappings().first()
            if row is not None:
                return _job(row), False
            identity = f"ftjob-{secrets.token_hex(12)}"
            connection.execute(
                insert(jobs).values(
                    id=identity,
                    asked=msgspec.to_builtins(asked),
                    fingerprint=fingerprint,
                    source=asked.source,
                    owner=asked.owner,
                    adapter=asked.adapter,
                    idempotency_key=asked.idempotency_key,
                    status="queued",
                    created_at=int(time.time()),
                    result_files=[],
                )
            )
            tell(connection, identity, f"Created fine-tuning job: {identity}")
            if asked.training_file is not None:
                tell(connection, identity, "Files validated, moving job to queued state")
            return fetch(connection, identity), True

    def get(self, identity: str) -> Job:
        """One job.

        Raises:
            JobUnknown: there is none.
        """
        with self._database.reading() as connection:
            return fetch(connection, identity)

    def unfinished(self) -> list[Job]:
        """Jobs that have not ended, in the order in which they will be worked on."""
        with self._database.reading() as connection:
            query = select(jobs).where(jobs.c.status.in_(UNFINISHED)).order_by(jobs.c.number)
            return [_job(row) for row in connection.execute(query).mappings()]

    def list(
        self,
        *,
        adapters: set[str] | None = None,
        metadata: dict[str, str] | None = None,
        without_metadata: bool = False,
        after: str | None = None,
        limit: int = 20,
    ) -> Page:
        """Jobs, newest first.

        Args:
            adapters: those that train one of these; None for all.
            metadata: pairs that a job's metadata must have.
            without_metadata: only jobs that have none.
            after: the id of the last job of the page before.
            limit: at most so many.

        Raises:
            JobUnknown: ``after`` is no job.
        """
        query = select(jobs)
        if adapters is not None:
            query = query.where(jobs.c.adapter.in_(adapters))
        for name, value in (metadata or {}).items():
            # Not a JSON path: in one, a name with quotes or letters beyond ASCII is not found.
            pair = func.json_each(jobs.c.asked, "$.metadata").table_valued("key", "atom")
            query = query.where(exists().where(pair.c.key == name, pair.c.atom == value))
        if without_metadata:
            query = query.where(jobs.c.asked["metadata"].as_string().is_(None))
        with self._database.reading() as connection:
            found = page_of(connection, query, jobs, after=after, limit=limit, ascending=False)
        if found is None:
            raise _unknown(after)
        rows, more = found
        return Page([_job(row) for row in rows], more)

    def cancel(self, identity: str) -> Job:
        """End a job: at once where it waits, else as soon as its worker sees the wish.

        Raises:
            JobUnknown: there is none.
            WrongState: it has ended already.
        """
        with self._database.writing() as connection:
            ended = {"status": "cancelled", "finished_at": int(time.time()), "wish": None}
            if move(connection, identity, ("queued", "paused"), **ended):
                tell(connection, identity, "The job was cancelled.")
            elif not move(connection, identity, ("running",), wish="cancel"):
                raise _wrong(fetch(connection, identity), "cancelled")
            return fetch(connection, identity)

    def pause(self, identity: str) -> Job:
        """Stop a job until it is resumed; what was trained is kept.

        Raises:
            JobUnknown: there is none.
            WrongState: it has ended, or is to be cancelled.
        """
        with self._database.writing() as connection:
            if move(connection, identity, ("queued",), status="paused"):
                tell(connection, identity, "The job was paused.")
            elif not move(connection, identity, ("running",), jobs.c.wish.is_(None), wish="pause"):
                job = fetch(connection, identity)
                if job.status != "paused" and job.wish != "pause":
                    raise _wrong(job, "paused")
            return fetch(connection, identity)

    def resume(self, identity: str) -> Job:
        """Let a paused job go on.

        Raises:
            JobUnknown: there is none.
            WrongState: it is not paused.
        """
        with self._database.writing() as connection:
            if move(connection, identity, ("paused",), status="queued"):
                tell(connection, identity, "The job was resumed.")
            elif not move(connection, identity, ("running",), jobs.c.wish == "pause", wish=None):
                raise _wrong(fetch(connection, identity), "resumed")
            return fetch(connection, identity)

    def events(self, identity: str, *, after: str | None = None, limit: int = 20, ascending: bool = False) -> Page:
        """What happened to a job, newest first where not said otherwise.

        Raises:
            JobUnknown: there is no such job, or ``after`` is no event.
        """
        return self._of_job(identity, events, JobEvent, after=after, limit=limit, ascending=ascending)

    def checkpoints(self, identity: str, *, after: str | None = None, limit: int = 10) -> Page:
        """The models of a job that can be asked for, newest first.

        Raises:
            JobUnknown: there is no such job, or ``after`` is no checkpoint.
        """
        return self._of_job(identity, checkpoints, Checkpoint, after=after, limit=limit, ascending=False)

    def _of_job(
        self, identity: str, table: Any, kind: type[Any], *, after: str | None, limit: int, ascending: bool
    ) -> Page:
        with self._database.reading() as connection:
            fetch(connection, identity)
            query = select(table).where(table.c.job_id == identity)
            found = page_of(connection, query, table, after=after, limit=limit, ascending=ascending)
        if found is None:
            raise _unknown(after)
        rows, more = found
        return Page([kind(**{name: row[name] for name in kind.__struct_fields__}) for row in rows], more)


def fetch(connection: Connection, identity: str) -> Job:
    """One job, within a transaction.

    Raises:
        JobUnknown: there is none.
    """
    row = connection.execute(select(jobs).where(jobs.c.id == identity)).mappings().first()
    if row is None:
        raise _unknown(identity)
    return _job(row)


def move(connection: Connection, identity: str, before: tuple[Status, ...], *also: Any, **values: Any) -> bool:
    """Change a job that is in one of these states, within a transaction; whether it was."""
    changed = connection.execute(
        update(jobs).where(jobs.c.id == identity, jobs.c.status.in_(before), *also).values(**values)
    )
    return bool(changed.rowcount)


def tell(
    connection: Connection,
    identity: str,
    message: str,
    *,
    level: Level = "info",
    data: dict[str, Any] | None = None,
    metrics: bool = False,
) -> None:
    """Add an event, within a transaction."""
    connection.execute(
        insert(events).values(
            id=f"ftevent-{secrets.token_hex(12)}",
            job_id=identity,
            created_at=int(time.time()),
            level=level,
            type="metrics" if metrics else "message",
            message=message,
            data=data,
        )
    )


def _fingerprint(asked: NewJob) -> str:
    unmarked = msgspec.structs.replace(asked, idempotency_key=None)
    return hashlib.sha256(msgspec.json.encode(unmarked, order="deterministic")).hexdigest()


def _job(row: Any) -> Job:
    failure = row["failure"]
    wish: Wish | None = row["wish"]
    return Job(
        id=row["id"],
        asked=msgspec.convert(row["asked"], NewJob),
        status=row["status"],
        created_at=row["created_at"],
        wish=wish,
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        estimated_finish=row["estimated_finish"],
        trained_tokens=row["trained_tokens"],
        version=row["version"],
        fine_tuned_model=row["fine_tuned_model"],
        failure=None if failure is None else msgspec.convert(failure, Failure),
        result_files=row["result_files"],
        outcome=row["outcome"],
    )


def _unknown(identity: str | None) -> JobUnknown:
    return JobUnknown(f"Could not find fine tune: {(identity or '')[:80]}")


def _wrong(job: Job, wanted: str) -> WrongState:
    state = job.status if job.wish is None else f"{job.status}, to be {job.wish}{'d' if job.wish == 'pause' else 'led'}"
    return WrongState(f"Job {job.id} cannot be {wanted}: it is {state}.")
