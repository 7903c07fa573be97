"""What the worker sees of a run: transformers' callbacks as events, checkpoints sealed, a request to stop obeyed."""

import math
import time
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback
from transformers.trainer_utils import SaveStrategy

from services.common.killpoints import passing
from services.trainer.checkpoints import seal
from services.trainer.training.job import Checkpoint, Observer, Room, Step, TrainingFailed

ACCURACY = "mean_token_accuracy"  # beside each loss in the trainer's log; TRL's name
_SECONDS = "run_seconds"  # likewise, which checkpoints keep


class NothingLeft(Exception):
    """The checkpoint that is continued is of the last update: transformers would make one more."""


class Watch(TrainerCallback):  # type: ignore[misc]  # transformers is not typed for mypy
    """Turns the trainer's callbacks into events, seals checkpoints, and ends the run when asked to."""

    def __init__(self, observer: Observer, checkpoints: Path) -> None:
        self._observer = observer
        self._checkpoints = checkpoints
        self._began = 0.0
        self._before = 0.0
        self._told_room = False
        self.interrupted_at: int | None = None

    @property
    def seconds(self) -> float:
        """Spent on updates, those of earlier workers included."""
        return round(self._before + time.monotonic() - self._began, 3)

    def on_train_begin(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
        """Start the clock; refuse a run that has nothing left to do."""
        self._began = time.monotonic()
        self._before = max((entry.get(_SECONDS, 0.0) for entry in state.log_history), default=0.0)
        if state.global_step >= state.max_steps:
            raise NothingLeft
        self._observer.loading("first update")

    def on_log(self, _args: Any, state: Any, _control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        """Tell of an update."""
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
                accuracy=float(logs[ACCURACY]) if ACCURACY in logs else None,
                learning_rate=float(logs.get("learning_rate", 0.0)),
                grad_norm=grad_norm,
                tokens=int(state.num_input_tokens_seen),
                seconds=self.seconds,
            )
        )

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Obey a request to stop; after the first update, tell what the card has left."""
        if not self._told_room and torch.cuda.is_available():
            free, total = torch.cuda.mem_get_info()
            self._observer.emit(Room(free=free, total=total))
        self._told_room = True
        passing("training: updated")
        if self._observer.stop_requested and state.global_step < state.max_steps:
            control.should_save = args.save_strategy != SaveStrategy.NO
            control.should_training_stop = True
            self.interrupted_at = state.global_step

    def on_save(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
        """Seal a checkpoint."""
        folder = self._checkpoints / f"checkpoint-{state.global_step}"
        passing("training: saved")
        seal(folder)
        passing("training: sealed")
        self._observer.emit(Checkpoint(step=state.global_step, folder=folder.name))
