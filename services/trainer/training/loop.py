"""The training loop that both backends share: TRL's SFTTrainer on rows that are already tokens and labels."""

import math
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import PrinterCallback, Trainer, TrainerCallback
from trl import SFTConfig, SFTTrainer

from services.trainer.checkpoints import seal
from services.trainer.training.job import (
    Checkpoint,
    Finished,
    Interrupted,
    MachineFailed,
    Observer,
    Step,
    TrainingFailed,
    TrainingJob,
)
from services.trainer.training.measure import Accuracy, measure_holdout

_SECONDS = "run_seconds"  # beside each loss in the trainer's log, which checkpoints keep
_ACCURACY = "mean_token_accuracy"  # TRL's name


def run_loop(job: TrainingJob, observer: Observer, *, model: Any, tokenizer: Any, optimizer: str, backend: str) -> None:
    """Train ``model``'s adapter on the job's rows, report every step, write the adapter.

    Raises:
        TrainingFailed: the loss is not finite, or the adapter did not change.
        MachineFailed: the memory does not suffice.
    """
    rows = Dataset.load_from_disk(str(job.train_rows))
    observer.loading("trainer")
    watch = _Watch(observer, job.checkpoints_folder)
    trainer_class = SFTTrainer if torch.cuda.is_available() else _CpuTrainer
    trainer = trainer_class(
        model=model,
        args=_configuration(job, optimizer),
        train_dataset=rows,
        processing_class=tokenizer,
        callbacks=[watch],
    )
    trainer.remove_callback(PrinterCallback)  # it would write every step a second time
    observer.loading("first step")
    try:
        trainer.train(resume_from_checkpoint=str(job.resume_from) if job.resume_from else None)
    except _NothingLeft:
        pass  # the run was killed between its last update and its publication; the checkpoint's weights are loaded
    except torch.OutOfMemoryError as error:
        raise MachineFailed(
            "the card's memory is full; lower recipe.rows_per_pass, recipe.max_length or set recipe.base_bits = 4"
        ) from error
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
    holdout = None
    if job.holdout_rows is not None:
        observer.loading("holdout")
        holdout = measure_holdout(trainer, Dataset.load_from_disk(str(job.holdout_rows)))
    observer.loading("writing the adapter")
    model.save_pretrained(job.adapter_folder)
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


def _configuration(job: TrainingJob, optimizer: str) -> SFTConfig:
    recipe = job.recipe
    on_cuda = torch.cuda.is_available()
    return SFTConfig(
        output_dir=str(job.checkpoints_folder),
        num_train_epochs=recipe.epochs,
        max_steps=recipe.max_steps or -1,
        per_device_train_batch_size=recipe.rows_per_pass,
        per_device_eval_batch_size=recipe.rows_per_pass,
        gradient_accumulation_steps=recipe.rows_per_step // recipe.rows_per_pass,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type=recipe.scheduler,
        warmup_steps=recipe.warmup_steps,
        weight_decay=recipe.weight_decay,
        max_grad_norm=recipe.max_grad_norm,
        optim=optimizer,
        seed=recipe.seed,
        data_seed=recipe.seed,
        bf16=on_cuda and recipe.precision != "float32",
        use_cpu=not on_cuda,
        gradient_checkpointing=False,  # Unsloth brings its own; on a CPU memory is not the limit
        # The rows are already within max_length; given again, TRL would look for rows to cut. Packing needs the length to fill.
        max_length=recipe.max_length if recipe.packing else None,
        packing=recipe.packing,
        padding_free=False,
        logging_steps=1,
        logging_nan_inf_filter=False,
        # A packed pass has no padding and no mask, and transformers would take the token that ends a turn for padding.
        include_num_input_tokens_seen="all" if recipe.packing else "non_padding",
        save_strategy="steps",
        save_steps=job.checkpoints.every_steps,
        save_total_limit=job.checkpoints.keep,
        report_to=[],
        disable_tqdm=True,
        dataloader_num_workers=0,
    )


class _CpuTrainer(SFTTrainer):  # type: ignore[misc]  # TRL is not typed for mypy
    """TRL 1.15 computes loss and accuracy in a Triton kernel only; on a CPU both come of the model's own logits."""

    def __init__(self, **named: Any) -> None:
        super().__init__(**named)
        self._accuracy = Accuracy()

    def compute_loss(
        self,
        model: Any,
        inputs: Any,
        return_outputs: bool = False,  # noqa: FBT001, FBT002 - transformers' signature
        num_items_in_batch: Any = None,
    ) -> Any:
        inputs["use_cache"] = False
        loss, outputs = Trainer.compute_loss(
            self, model, inputs, return_outputs=True, num_items_in_batch=num_items_in_batch
        )
        self._accuracy.add(outputs.logits.detach(), inputs["labels"])
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs and (share := self._accuracy.take()) is not None:
            logs[_ACCURACY] = share
        super().log(logs, start_time)


class _NothingLeft(Exception):
    """The checkpoint that is continued is of the last update: transformers would make one more."""


class _Watch(TrainerCallback):  # type: ignore[misc]  # transformers is not typed for mypy
    """Turns the trainer's callbacks into events, seals checkpoints, and ends the run when asked to."""

    def __init__(self, observer: Observer, checkpoints: Path) -> None:
        self._observer = observer
        self._checkpoints = checkpoints
        self._began = 0.0
        self._before = 0.0
        self.interrupted_at: int | None = None

    @property
    def seconds(self) -> float:
        return round(self._before + time.monotonic() - self._began, 3)

    def on_train_begin(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
        self._began = time.monotonic()
        self._before = max((entry.get(_SECONDS, 0.0) for entry in state.log_history), default=0.0)
        if state.global_step >= state.max_steps:
            raise _NothingLeft

    def on_log(self, _args: Any, state: Any, _control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        if logs is None or "loss" not in logs:
            return
        loss = float(logs["loss"])
        grad_norm = float(logs.get("grad_norm", 0.0))
        if not math.isfinite(loss) or not math.isfinite(grad_norm):
            raise TrainingFailed(
                f"the loss became {loss} at step {state.global_step}; lower recipe.learning_rate and check the rows"
            )
        state.log_history[-1][_SECONDS] = self.seconds
        self._observer.emit(
            Step(
                step=state.global_step,
                of=state.max_steps,
                loss=loss,
                accuracy=float(logs[_ACCURACY]) if _ACCURACY in logs else None,
                learning_rate=float(logs.get("learning_rate", 0.0)),
                grad_norm=grad_norm,
                tokens=int(state.num_input_tokens_seen),
                seconds=self.seconds,
            )
        )

    def on_step_end(self, _args: Any, state: Any, control: Any, **_: Any) -> None:
        if self._observer.stop_requested and state.global_step < state.max_steps:
            control.should_save = True
            control.should_training_stop = True
            self.interrupted_at = state.global_step

    def on_save(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
        folder = self._checkpoints / f"checkpoint-{state.global_step}"
        seal(folder)
        self._observer.emit(Checkpoint(step=state.global_step, folder=folder.name))


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
