"""The training loop that both backends share: transformers' own, from the rows on disk to the adapter's files."""

import math
from contextlib import suppress
from typing import Any, Protocol

import torch
from datasets import Dataset
from transformers import PrinterCallback

from services.common.killpoints import passing
from services.trainer.training.job import Finished, Interrupted, Observer, TrainingFailed, TrainingJob
from services.trainer.training.measure import Holdout
from services.trainer.training.watch import NothingLeft, Watch


class MakeTrainer(Protocol):
    """Makes the backend's trainer of rows and a callback."""

    def __call__(self, rows: Dataset, watch: Watch, /) -> Any:
        """A ``transformers.Trainer``, or a kind of one."""


class MeasureHoldout(Protocol):
    """Measures the trainer's model on rows that were not trained."""

    def __call__(self, trainer: Any, rows: Dataset, /) -> Holdout:
        """Loss and accuracy."""


def run_loop(
    job: TrainingJob,
    observer: Observer,
    *,
    model: Any,
    make: MakeTrainer,
    measure: MeasureHoldout,
    backend: str,
    leads: bool = True,
) -> None:
    """Train ``model``'s adapter on the job's rows, report every step, write the adapter.

    A rank that does not lead trains as the others do, and leaves the rest to the one that does.

    Raises:
        TrainingFailed: the loss is not finite, or the adapter did not change.
        torch.OutOfMemoryError: the memory does not suffice.
    """
    rows = Dataset.load_from_disk(str(job.train_rows))
    observer.loading("trainer")
    watch = Watch(observer, job.checkpoints_folder)
    trainer = make(rows, watch)
    trainer.remove_callback(PrinterCallback)  # it would write every step a second time
    observer.loading("first step")
    # Nothing is left where it was killed between its last update and its publication; the checkpoint's weights are loaded.
    with suppress(NothingLeft):
        trainer.train(resume_from_checkpoint=str(job.resume_from) if job.resume_from else None)
    if watch.interrupted_at is not None:
        observer.emit(Interrupted(step=watch.interrupted_at))
        return
    update_norm = _update_norm(model)
    if update_norm == 0.0:
        raise TrainingFailed(
            "training changed nothing (every lora_B is zero); check recipe.learning_rate and that rows have answers"
        )
    if not math.isfinite(update_norm):
        raise TrainingFailed("the adapter holds NaN or infinity; lower recipe.learning_rate")
    if not leads:
        return
    holdout = None
    if job.holdout_rows is not None:
        observer.loading("holdout")
        holdout = measure(trainer, Dataset.load_from_disk(str(job.holdout_rows)))
    observer.loading("writing the adapter")
    model.save_pretrained(job.adapter_folder)
    passing("training: adapter written")
    observer.emit(
        Finished(
            steps=trainer.state.global_step,
            train_loss=_mean_loss(trainer.state),
            holdout_loss=holdout.loss if holdout else None,
            holdout_accuracy=holdout.accuracy if holdout else None,
            update_norm=update_norm,
            tokens=int(trainer.state.num_input_tokens_seen),
            seconds=watch.seconds,
            backend=backend,
        )
    )


def arguments_of(job: TrainingJob, *, leads: bool = True) -> dict[str, Any]:
    """What every trainer is told of the recipe, in transformers' words; one that does not lead saves nothing."""
    recipe = job.recipe
    return {
        "output_dir": str(job.checkpoints_folder),
        "num_train_epochs": recipe.epochs,
        "max_steps": recipe.max_steps or -1,
        "learning_rate": recipe.learning_rate,
        "lr_scheduler_type": recipe.scheduler,
        "warmup_steps": recipe.warmup_steps,
        "weight_decay": recipe.weight_decay,
        "max_grad_norm": recipe.max_grad_norm,
        "seed": recipe.seed,
        "data_seed": recipe.seed,
        "use_cpu": not torch.cuda.is_available(),
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_strategy": "steps" if leads else "no",
        "save_steps": job.checkpoints.every_steps,
        "save_total_limit": job.checkpoints.keep,
        "report_to": [],
        "disable_tqdm": True,
        "dataloader_num_workers": 0,
    }


def _mean_loss(state: Any) -> float:
    """Mean over every update of the run in nats per supervised token; the trainer's own knows the last worker's only."""
    losses = [entry["loss"] for entry in state.log_history if "loss" in entry]
    return float(sum(losses) / len(losses))


def _update_norm(model: Any) -> float:
    """Frobenius norm over every lora_B: zero exactly where no update reached the adapter."""
    squares = [
        parameter.detach().float().pow(2).sum() for name, parameter in model.named_parameters() if "lora_B" in name
    ]
    return float(torch.stack([square.cpu() for square in squares]).sum().sqrt())
