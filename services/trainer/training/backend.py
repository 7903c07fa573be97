"""The choice between the two backends; each is one module, imported only when chosen."""

import importlib.util
from functools import partial
from pathlib import Path
from typing import Protocol

from services.trainer.settings import RecipeSettings
from services.trainer.training.job import Observer, TrainingFailed, TrainingJob
from services.trainer.training.place import ALONE, Place


class Backend(Protocol):
    """Trains a job and writes its adapter."""

    def __call__(self, job: TrainingJob, observer: Observer) -> None:
        """Train.

        Raises:
            TrainingFailed: no adapter can come of it.
        """


def choose_backend(recipe: RecipeSettings, place: Place = ALONE) -> Backend:
    """The backend that the recipe names, or that this machine can run.

    Args:
        recipe: names it.
        place: of this process; Unsloth's ranks are always alone.

    Raises:
        TrainingFailed: the recipe asks for what this machine lacks.
    """
    has_card = Path("/dev/nvidiactl").exists()
    has_unsloth = importlib.util.find_spec("unsloth") is not None
    if recipe.backend == "unsloth":
        if not has_card or not has_unsloth:
            missing = "an NVIDIA card" if not has_card else "the package unsloth"
            raise TrainingFailed(f'recipe.backend = "unsloth" needs {missing}; set "auto" or "packed"')
        from services.trainer.training.unsloth_backend import train as train_with_unsloth  # noqa: PLC0415 - imports torch

        return train_with_unsloth
    from services.trainer.training.packed_backend import train as train_packed  # noqa: PLC0415 - imports torch

    return partial(train_packed, place=place)
