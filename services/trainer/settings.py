"""Every setting of a training run, as ``config/training.toml`` states it."""

from typing import Annotated, Any, Literal

import msgspec

from services.dataset.settings import DataSettings

Positive = Annotated[int, msgspec.Meta(ge=1)]
Share = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]


class AdapterSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the result is called: the model name that apps ask for."""

    name: str


class LoraSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The update's shape; Hu et al., https://arxiv.org/abs/2106.09685."""

    rank: Positive
    alpha: Annotated[float, msgspec.Meta(gt=0.0)]
    dropout: Annotated[float, msgspec.Meta(ge=0.0, lt=1.0)]
    target_modules: Annotated[list[str], msgspec.Meta(min_length=1)]


class RecipeSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the rows become updates.

    Attributes:
        backend: ``packed`` joins an update's rows into one pass and runs anywhere; ``unsloth`` needs a CUDA device; ``auto`` is
            ``packed``.
        base_bits: precision of the frozen base while training: 4 (NF4, least memory) or 16; a CPU knows 16.
        precision: of the arithmetic: ``auto`` is bfloat16 on CUDA and float32 on a CPU.
        max_length: tokens; longer rows are dropped, never cut.
        max_steps: updates in all; 0 lets ``epochs`` decide.
        rows_per_step: rows that one update sees.
        rows_per_pass: rows that one forward pass holds at most; divides ``rows_per_step``; 0 for as many as memory holds.
        optimizer: of the backend ``unsloth``: a name that transformers knows, ``auto`` is ``adamw_8bit``; ``packed`` takes AdamW in float32.
    """

    backend: Literal["auto", "packed", "unsloth"]
    base_bits: Literal[4, 16]
    precision: Literal["auto", "float32", "bfloat16"]
    max_length: Positive
    epochs: Annotated[float, msgspec.Meta(gt=0.0)]
    max_steps: Annotated[int, msgspec.Meta(ge=0)]
    rows_per_step: Positive
    rows_per_pass: Annotated[int, msgspec.Meta(ge=0)]
    learning_rate: Annotated[float, msgspec.Meta(gt=0.0)]
    scheduler: Literal["linear", "cosine", "constant", "constant_with_warmup"]
    warmup_steps: Annotated[int, msgspec.Meta(ge=0)]
    weight_decay: Annotated[float, msgspec.Meta(ge=0.0)]
    max_grad_norm: Annotated[float, msgspec.Meta(gt=0.0)]
    optimizer: str
    seed: Annotated[int, msgspec.Meta(ge=0)]

    def __post_init__(self) -> None:
        """Refuse a split of the step that does not add up."""
        if self.rows_per_pass and self.rows_per_step % self.rows_per_pass:
            raise ValueError(
                f"rows_per_pass = {self.rows_per_pass} does not divide rows_per_step = {self.rows_per_step}"
            )


class WorkerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the machine is used; nothing here changes what a run yields.

    Attributes:
        cards: on which an update's rows are spread; ``auto`` is all where they pay.
        warm: whether the trainer keeps a spare worker while it waits for jobs.
        holds_base: whether that one has loaded the base model onto the card.
    """

    cards: Literal["auto"] | Positive
    warm: bool
    holds_base: bool


class CheckpointSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When the run's state is saved, and how many such states are kept."""

    every_steps: Positive
    keep: Annotated[int, msgspec.Meta(ge=2)]


class VersionSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many of an adapter's newest versions stay; one that serves or is loaded stays whatever its age."""

    keep: Annotated[int, msgspec.Meta(ge=2)]


class TrainingSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of ``config/training.toml``."""

    adapter: AdapterSettings
    data: DataSettings
    lora: LoraSettings
    recipe: RecipeSettings
    checkpoints: CheckpointSettings
    versions: VersionSettings
    worker: WorkerSettings

    def shaping(self) -> dict[str, Any]:
        """All but how the machine is used: a run goes on where only that has changed."""
        return {name: getattr(self, name) for name in self.__struct_fields__ if name != "worker"}
