"""What the routes of files, jobs and models share: the stores, and who may see what."""

import asyncio
from collections.abc import Callable
from typing import Literal, ParamSpec, TypeVar

import structlog

from services.jobs.database import Database
from services.jobs.deletions import Deletions
from services.jobs.errors import DatabaseUnusable, FileUnknown, JobsError, JobUnknown, WrongState
from services.jobs.files import FileStore
from services.jobs.queue import Queue
from services.jobs.records import Job, StoredFile
from services.jobs.settings import JobDefaults
from services.server.errors import BadRequest, FileNotFound, JobNotFound, ServerError, Unavailable
from services.server.keys import ALL_MODELS, Key

log = structlog.get_logger(__name__)

P = ParamSpec("P")
T = TypeVar("T")


class Tuning:
    """The queue and the files, as the server uses them.

    Args:
        database: open.
        files: the store of uploads and results.
        defaults: of a job that says nothing else.

    Attributes:
        queue: the jobs.
        deletions: models that are to go.
    """

    def __init__(self, database: Database, files: FileStore, defaults: JobDefaults) -> None:
        self.files = files
        self.defaults = defaults
        self.queue = Queue(database)
        self.deletions = Deletions(database)

    async def file(self, key: Key, identity: str) -> StoredFile:
        """A file that this caller may see.

        Raises:
            FileNotFound: there is none.
        """
        stored = await off_loop(self.files.get, identity)
        if key.name != stored.owner:
            raise FileNotFound(f"No such File object: {identity[:80]}")
        return stored

    async def job(self, key: Key, identity: str) -> Job:
        """A job that this caller may see and steer.

        Raises:
            JobNotFound: there is none.
        """
        job = await off_loop(self.queue.get, identity)
        if not key.covers(job.asked.adapter):
            raise JobNotFound(f"Could not find fine tune: {identity[:80]}", param="fine_tuning_job_id")
        return job


def adapters_of(key: Key) -> set[str] | None:
    """Whose jobs a caller sees, by what they train; None for all."""
    return None if ALL_MODELS in key.models else set(key.models)


async def off_loop(work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """Do work on the database or the disk beside the event loop.

    Raises:
        ServerError: what went wrong, in the client's terms.
    """
    try:
        return await asyncio.to_thread(work, *arguments, **named)
    except JobsError as error:
        raise _translated(error) from error
    except OSError as error:
        log.error("the job store cannot be written", reason=error.strerror)  # noqa: TRY400 - the reason says all
        raise Unavailable(
            "The file cannot be stored; the operator finds the reason in the log.", retry_after=5
        ) from error


def _translated(error: JobsError) -> ServerError:
    if isinstance(error, FileUnknown):
        return FileNotFound(str(error))
    if isinstance(error, JobUnknown):
        return JobNotFound(str(error), param="fine_tuning_job_id")
    if isinstance(error, WrongState):
        return BadRequest(str(error), code="invalid_state")
    if isinstance(error, DatabaseUnusable):
        log.error("the job queue cannot be used", reason=str(error))
        return Unavailable("The job queue cannot be reached; the operator finds the reason in the log.", retry_after=5)
    return ServerError("The job queue failed; the log has the request id.")


def ordered(order: str) -> Literal["asc", "desc"]:
    """The ``order`` of a list.

    Raises:
        BadRequest: there is none of this name.
    """
    if order == "asc":
        return "asc"
    if order == "desc":
        return "desc"
    raise BadRequest("Invalid 'order': want 'asc' or 'desc'.", param="order", code="invalid_value")


def bounded(value: int | None, field: str, least: int, most: int, *, default: int) -> int:
    """A whole number of a query, within its limits.

    Raises:
        BadRequest: it is not.
    """
    if value is None:
        return default
    if not least <= value <= most:
        raise BadRequest(f"Invalid '{field}': want {least} to {most}.", param=field, code="invalid_value")
    return value
