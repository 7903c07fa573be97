"""What the trainer and its worker processes say to each other: orders in, a line of JSON per event out."""

from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import msgspec

from services.trainer.settings import CheckpointSettings, LoraSettings, Positive, RecipeSettings


class Outline(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a job before its rows are: enough to load the base model.

    Attributes:
        base_folder: the base model, in Hugging Face format.
        cards: see ``WorkerSettings``.
    """

    base_folder: Path
    recipe: RecipeSettings
    lora: LoraSettings
    cards: Literal["auto"] | Positive

    def loads_as(self, other: "Outline") -> bool:
        """Whether what is loaded for ``other`` can do a job of this one: epochs, rows and rates concern only the training."""
        ours, theirs = self.recipe, other.recipe
        return (
            (self.base_folder, self.lora) == (other.base_folder, other.lora)
            and (ours.backend, ours.base_bits, ours.precision) == (theirs.backend, theirs.base_bits, theirs.precision)
            and ours.seed == theirs.seed  # of which the adapter is drawn
            and ours.backend != "unsloth"  # which is told the longest row when it loads
        )


class Announced(Outline, frozen=True, kw_only=True):
    """The outline of a job whose rows are still read: the worker imports for it."""


class Foreseen(Outline, frozen=True, kw_only=True):
    """An outline that the next job may have: the worker loads for it, and loads anew for a job that it does not suit."""


class TrainingJob(Outline, frozen=True, kw_only=True):
    """Everything that a worker needs.

    Attributes:
        train_rows: a ``datasets`` folder with the columns ``input_ids`` and ``labels`` (-100 where nothing is learnt).
        holdout_rows: the same for the rows that are only measured; None where the split left none.
        checkpoints_folder: where states of the run are saved.
        adapter_folder: where the finished adapter goes, in PEFT's format.
        resume_from: a checkpoint to continue.
    """

    train_rows: Path
    holdout_rows: Path | None
    checkpoints_folder: Path
    adapter_folder: Path
    resume_from: Path | None
    checkpoints: CheckpointSettings

    @property
    def outline(self) -> Outline:
        """What was known of it before."""
        return Outline(**{name: getattr(self, name) for name in Outline.__struct_fields__})


class Handover(msgspec.Struct, frozen=True, kw_only=True):
    """A job for workers that were started before it was whole.

    Attributes:
        log_file: where everything goes that they print from now on.
    """

    job: TrainingJob
    log_file: Path


class ScoreBase(msgspec.Struct, frozen=True, kw_only=True):
    """What can be scored before there is an adapter.

    Attributes:
        prompts: token ids, one list each.
        lora: of the adapter to come, where it is known; its layers are laid out ahead, too.
    """

    base_folder: Path
    prompts: list[list[int]]
    lora: LoraSettings | None = None


class BaseScored(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to ``ScoreBase``: it is done, and what is left takes next to nothing of the card."""


class ScoreJob(ScoreBase, frozen=True, kw_only=True):
    """What to score and where to write the result.

    Attributes:
        output: a JSON file with ``Scored``, or ``Failed`` where memory is full; it is whole as soon as it is there.
    """

    adapter_folder: Path
    output: Path


class Scored(msgspec.Struct, frozen=True, kw_only=True, tag="scored"):
    """What was scored.

    Attributes:
        pairs: base model's and adapter's log-probabilities for each prompt, in nats.
        seconds: that each part took; those of the base model may have passed while the adapter was trained.
    """

    pairs: list[tuple[list[float], list[float]]]
    seconds: dict[str, float] = {}


class Step(msgspec.Struct, frozen=True, kw_only=True, tag="step"):
    """One update.

    Attributes:
        loss: mean over the update's supervised tokens, in nats.
        accuracy: share of those tokens that were the likeliest; None where the backend does not count them.
        tokens: seen since the run's first update began, padding not counted; those of earlier workers included.
        seconds: spent on updates since then; those of earlier workers included, the pauses between them not.
    """

    step: int
    of: int
    loss: float
    learning_rate: float
    grad_norm: float
    tokens: int
    seconds: float
    accuracy: float | None = None


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True, tag="checkpoint"):
    """A state of the run was saved and sealed."""

    step: int
    folder: str


class Loading(msgspec.Struct, frozen=True, kw_only=True, tag="loading"):
    """What the worker does before its first update; ``seconds`` since it started."""

    what: str
    seconds: float


class Room(msgspec.Struct, frozen=True, kw_only=True, tag="room"):
    """The card's memory once the first update is done, in bytes; whoever else takes of it counted."""

    free: int
    total: int


class Finished(msgspec.Struct, frozen=True, kw_only=True, tag="finished"):
    """The adapter's files are written.

    Attributes:
        train_loss: mean over all updates of the run, in nats per supervised token.
        holdout_loss: after training; None without holdout rows.
        holdout_accuracy: likewise, as ``Step.accuracy``.
        update_norm: Frobenius norm of all lora_B matrices, zero before the first update.
        tokens: of the whole run, as ``Step.tokens``.
        seconds: of the whole run, as ``Step.seconds``, and the holdout's.
        backend: the backend that ran, and with which base and arithmetic.
    """

    steps: int
    train_loss: float
    holdout_loss: float | None
    update_norm: float
    tokens: int
    seconds: float
    backend: str
    holdout_accuracy: float | None = None


class Interrupted(msgspec.Struct, frozen=True, kw_only=True, tag="interrupted"):
    """The worker was asked to stop, saved its state and ends."""

    step: int


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag="failed"):
    """The worker cannot go on.

    Attributes:
        reason: one sentence with the remedy, without data.
        of_machine: the run's checkpoints are good, as after ``MachineFailed``.
    """

    reason: str
    of_machine: bool = False


Event = Step | Checkpoint | Loading | Room | Finished | Interrupted | Failed


class Observer(Protocol):
    """Who watches a run and may ask it to stop."""

    stop_requested: bool

    def emit(self, event: Event) -> None:
        """Take an event."""

    def loading(self, what: str) -> None:
        """Take note of what takes time before the first step."""


_Job = TypeVar("_Job")


def write_job(file: Path, job: msgspec.Struct) -> None:
    """Write a job for another process to read."""
    file.write_bytes(msgspec.json.encode(job, enc_hook=str))  # paths are the only values that need the hook


def read_job(file: Path, kind: type[_Job]) -> _Job:
    """Read what ``write_job`` wrote."""
    return msgspec.json.decode(file.read_bytes(), type=kind, dec_hook=_decode_path)


def _decode_path(kind: type[Any], value: Any) -> Any:
    return kind(value)


class TrainingFailed(Exception):
    """Training cannot yield an adapter; the message is one sentence with the remedy."""


class MachineFailed(TrainingFailed):
    """Not the recipe but the machine ended the training: killed, memory or disk full. What was saved can be continued."""
