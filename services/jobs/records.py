"""What the queue and the file store hand out."""

from typing import Any, Literal

import msgspec

Purpose = Literal["fine-tune", "fine-tune-results"]
Source = Literal["api", "operator"]
OPERATOR = "operator"  # the owner of what no key asked for
# "paused" is ours: OpenAI's list of states has none, and tells of a paused job as queued.
Status = Literal["queued", "running", "paused", "succeeded", "failed", "cancelled"]
Wish = Literal["cancel", "pause"]
Level = Literal["info", "warn", "error"]
EventKind = Literal["message", "metrics"]
Auto = Literal["auto"]

UNFINISHED: tuple[Status, ...] = ("queued", "running", "paused")


class StoredFile(msgspec.Struct, frozen=True, kw_only=True):
    """One uploaded or produced file.

    Attributes:
        owner: the name of the key that uploaded it, or that asked for the job that made it.
        bytes: its size.
        created_at: seconds since 1970.
        expires_at: likewise; None for never.
    """

    id: str
    owner: str
    filename: str
    purpose: Purpose
    bytes: int
    sha256: str
    created_at: int
    expires_at: int | None = None


class Hyperparameters(msgspec.Struct, frozen=True, kw_only=True):
    """OpenAI's three; ``auto`` leaves ``config/training.toml`` as it is."""

    n_epochs: int | Auto = "auto"
    batch_size: int | Auto = "auto"
    learning_rate_multiplier: float | Auto = "auto"


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Why a job failed; ``param`` names the field to blame, if one is."""

    code: str
    message: str
    param: str | None = None


class NewJob(msgspec.Struct, frozen=True, kw_only=True):
    """What a job is to do.

    Attributes:
        owner: the name of the key that asks, or the operator's.
        model: the base model's name.
        adapter: the registry's name of what is trained.
        training_file: a file's id; None trains on ``data/datasets``.
        overrides: settings as ``table.key=value``, of ``make retrain``.
        idempotency_key: the caller's own mark of this request.
    """

    source: Source
    owner: str
    model: str
    adapter: str
    training_file: str | None = None
    validation_file: str | None = None
    suffix: str | None = None
    hyperparameters: Hyperparameters = Hyperparameters()
    seed: int | None = None
    metadata: dict[str, str] | None = None
    overrides: list[str] = []
    idempotency_key: str | None = None


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One job as it stands.

    Attributes:
        wish: what a running job was asked to do; the worker looks.
        estimated_finish: seconds since 1970, while it runs.
        trained_tokens: of all epochs, once it has ended.
        version: what it published, such as ``acme-support@7``, whatever the gate said.
        fine_tuned_model: the same, once the gate passed it and the server serves it.
        result_files: ids.
        outcome: the trainer's own account of it.
    """

    id: str
    asked: NewJob
    status: Status
    created_at: int
    wish: Wish | None = None
    started_at: int | None = None
    finished_at: int | None = None
    estimated_finish: int | None = None
    trained_tokens: int | None = None
    version: str | None = None
    fine_tuned_model: str | None = None
    failure: Failure | None = None
    result_files: list[str] = []
    outcome: dict[str, Any] | None = None


class JobEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened to a job; never a row's content.

    Attributes:
        data: figures, for ``metrics``.
    """

    id: str
    created_at: int
    level: Level
    message: str
    type: EventKind
    data: dict[str, Any] | None = None


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A model of a job that can be asked for.

    Attributes:
        model: its name.
        metrics: OpenAI's names, such as ``train_loss``.
    """

    id: str
    created_at: int
    step: int
    model: str
    metrics: dict[str, float | None]


class Page(msgspec.Struct, frozen=True):
    """Part of a list."""

    data: list[Any]
    has_more: bool
