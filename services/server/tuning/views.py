"""Files, jobs, events and checkpoints in OpenAI's shapes: every required field, null where there is nothing."""

from typing import Any, Generic, Literal, TypeVar

import msgspec

from services.jobs.records import Checkpoint, Failure, Hyperparameters, Job, JobEvent, Page, StoredFile

ORGANIZATION = "whetstone"  # OpenAI's objects name one; here there is the house
OPERATORS_ROWS = "data/datasets"  # what `make retrain` trains on, in place of a file's id

T = TypeVar("T")


class FileObject(msgspec.Struct, frozen=True, kw_only=True):
    """OpenAI's file."""

    id: str
    bytes: int
    created_at: int
    filename: str
    purpose: Literal["fine-tune", "fine-tune-results"]
    expires_at: int | None
    status: Literal["processed"] = "processed"
    status_details: str | None = None
    object: Literal["file"] = "file"


class Deleted(msgspec.Struct, frozen=True, kw_only=True):
    """What is left of a file, a model or a response."""

    id: str
    object: Literal["file", "model", "response"]
    deleted: bool = True


class Supervised(msgspec.Struct, frozen=True, kw_only=True):
    """``method.supervised``."""

    hyperparameters: Hyperparameters


class MethodObject(msgspec.Struct, frozen=True, kw_only=True):
    """``method``."""

    supervised: Supervised
    type: Literal["supervised"] = "supervised"


class JobObject(msgspec.Struct, frozen=True, kw_only=True):
    """OpenAI's fine-tuning job."""

    id: str
    created_at: int
    error: Failure | None
    fine_tuned_model: str | None
    finished_at: int | None
    hyperparameters: Hyperparameters
    model: str
    result_files: list[str]
    seed: int
    status: Literal["queued", "running", "succeeded", "failed", "cancelled"]
    trained_tokens: int | None
    training_file: str
    validation_file: str | None
    estimated_finish: int | None
    metadata: dict[str, str] | None
    method: MethodObject
    user_provided_suffix: str | None
    integrations: list[Any] = []
    organization_id: str = ORGANIZATION
    object: Literal["fine_tuning.job"] = "fine_tuning.job"


class EventObject(msgspec.Struct, frozen=True, kw_only=True):
    """OpenAI's event of a job."""

    id: str
    created_at: int
    level: Literal["info", "warn", "error"]
    message: str
    data: dict[str, Any]
    type: Literal["message", "metrics"]
    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"


class CheckpointObject(msgspec.Struct, frozen=True, kw_only=True):
    """OpenAI's checkpoint: a model that can be asked for."""

    id: str
    created_at: int
    fine_tuned_model_checkpoint: str
    fine_tuning_job_id: str
    metrics: dict[str, float]
    step_number: int
    object: Literal["fine_tuning.job.checkpoint"] = "fine_tuning.job.checkpoint"


class Listing(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """OpenAI's list."""

    data: list[T]
    has_more: bool
    first_id: str | None
    last_id: str | None
    object: Literal["list"] = "list"


def file_object(stored: StoredFile) -> FileObject:
    """A file."""
    return FileObject(
        id=stored.id,
        bytes=stored.bytes,
        created_at=stored.created_at,
        filename=stored.filename,
        purpose=stored.purpose,
        expires_at=stored.expires_at,
    )


def job_object(job: Job, default_seed: int) -> JobObject:
    """A job; one that is paused is told as queued, as OpenAI's list of states has no other word."""
    asked = job.asked
    return JobObject(
        id=job.id,
        created_at=job.created_at,
        error=job.failure,
        fine_tuned_model=job.fine_tuned_model,
        finished_at=job.finished_at,
        hyperparameters=asked.hyperparameters,
        model=asked.model,
        result_files=job.result_files,
        seed=default_seed if asked.seed is None else asked.seed,
        status="queued" if job.status == "paused" else job.status,
        trained_tokens=job.trained_tokens,
        training_file=asked.training_file or OPERATORS_ROWS,
        validation_file=asked.validation_file,
        estimated_finish=job.estimated_finish,
        metadata=asked.metadata,
        method=MethodObject(supervised=Supervised(hyperparameters=asked.hyperparameters)),
        user_provided_suffix=asked.suffix,
    )


def event_object(event: JobEvent) -> EventObject:
    """An event."""
    return EventObject(
        id=event.id,
        created_at=event.created_at,
        level=event.level,
        message=event.message,
        data=event.data or {},
        type=event.type,
    )


def checkpoint_object(job_id: str, checkpoint: Checkpoint) -> CheckpointObject:
    """A checkpoint."""
    return CheckpointObject(
        id=checkpoint.id,
        created_at=checkpoint.created_at,
        fine_tuned_model_checkpoint=checkpoint.model,
        fine_tuning_job_id=job_id,
        metrics={name: value for name, value in checkpoint.metrics.items() if value is not None},
        step_number=checkpoint.step,
    )


def listing(found: Page, shown: list[Any]) -> Listing[Any]:
    """A page as OpenAI lists it."""
    ids = [item.id for item in found.data]
    return Listing(
        data=shown, has_more=found.has_more, first_id=ids[0] if ids else None, last_id=ids[-1] if ids else None
    )
