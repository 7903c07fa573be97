"""The choice between the two backends; each is one module, imported only when chosen."""

import gc
import importlib
import importlib.util
from functools import partial
from pathlib import Path
from typing import Protocol

from services.common.garbage import importing
from services.trainer.settings import RecipeSettings
from services.trainer.training.job import Observer, Outline, TrainingFailed, TrainingJob
from services.trainer.training.place import ALONE, Place


class Train(Protocol):
    """Trains a job on a base model that is loaded, and writes its adapter."""

    def __call__(self, job: TrainingJob, /) -> None:
        """Train, once.

        Raises:
            TrainingFailed: no adapter can come of it.
        """


class Backend(Protocol):
    """Loads a base model and gives it an adapter to train; the rows may not be known yet."""

    def __call__(self, outline: Outline, observer: Observer, /) -> Train:
        """Load; what is returned trains a job of this outline.

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
        with importing():
            from services.trainer.training.unsloth_backend import load as load_with_unsloth  # noqa: PLC0415 - imports torch

        return load_with_unsloth
    with importing():
        from services.trainer.training.packed_backend import load as load_packed  # noqa: PLC0415 - imports torch

    return partial(load_packed, place=place)


def import_usual_backend() -> None:
    """Import what most recipes need, before one is known; a process that did so cannot train with Unsloth any more."""
    with importing():
        importlib.import_module("services.trainer.training.packed_backend")


def rehearse_usual_backend(outline: Outline) -> None:
    """Have the card load what a training of this outline takes of its libraries and kernels."""
    from services.trainer.training.rehearsal import rehearse  # noqa: PLC0415 - imports torch

    rehearse(outline)
    forget_usual_backend()


def forget_usual_backend() -> None:
    """Give the card back what nobody needs any more."""
    import torch  # noqa: PLC0415 - as above

    gc.unfreeze()  # what it was loaded with may hold itself
    gc.collect()
    torch.cuda.empty_cache()
