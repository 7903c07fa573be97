"""On how many cards a run is trained: those that this process may use, and whether several pay. Nothing here imports torch."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from services.trainer.training.job import Outline, TrainingFailed

_DEVICES = Path("/dev")
# Of a base model's weights. Below it an update is bound by the number of kernels rather than by arithmetic, and starting
# several processes takes longer than they save.
_SEVERAL_PAY_FROM_BYTES = 2 << 30


class Choice(NamedTuple):
    """How many cards, and why so many."""

    cards: int
    why: str


def visible_cards(environment: Mapping[str, str] = os.environ, devices: Path = _DEVICES) -> list[str]:
    """The cards that this process may use, as CUDA_VISIBLE_DEVICES names them; none on a machine without any.

    Args:
        environment: its CUDA_VISIBLE_DEVICES says which; where there is none, all.
        devices: a container has the nodes of the cards that it was given, and of no others.
    """
    present = [str(index) for index, _ in enumerate(devices.glob("nvidia[0-9]*"))]
    named = environment.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return present
    names = [name.strip() for name in named.split(",")]
    first_of_none = next((place for place, name in enumerate(names) if name in {"", "-1"}), len(names))
    visible = names[: min(first_of_none, len(present))]  # CUDA, too, reads up to the first that is none
    return visible[:1] if any(name.startswith("MIG") for name in visible) else visible  # CUDA opens one slice only


def choose_cards(outline: Outline, seen: int) -> Choice:
    """How many of ``seen`` cards train a job; 1 on a machine without any.

    Raises:
        TrainingFailed: ``worker.cards`` asks for more than there are, or for more than the backend can use.
    """
    wanted = outline.cards
    if wanted != "auto":
        if wanted > max(seen, 1):
            raise TrainingFailed(
                f'worker.cards = {wanted}, but the trainer sees {seen}; set "auto", or give its container more cards'
            )
        if wanted > 1 and outline.recipe.backend == "unsloth":
            raise TrainingFailed(
                f'worker.cards = {wanted}, but recipe.backend = "unsloth" trains on one; set worker.cards = 1, or "packed"'
            )
        return Choice(wanted, "as worker.cards says")
    if seen <= 1:
        return Choice(1, "there is no second card")
    if outline.recipe.backend == "unsloth":
        return Choice(1, "unsloth trains on one")
    weights = sum(file.stat().st_size for file in outline.base_folder.glob("*.safetensors"))
    if weights < _SEVERAL_PAY_FROM_BYTES:
        return Choice(1, f"{weights >> 20} MiB of weights are too few for several to be faster")
    return Choice(
        min(seen, outline.recipe.rows_per_step), "all that there are, and at least a row of an update for each"
    )
