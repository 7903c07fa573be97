"""A worker's place among those that train one adapter together, one process for each card."""

import ctypes
import os
import signal
from pathlib import Path
from typing import NamedTuple

from services.trainer.cards import visible_cards
from services.trainer.training.meeting import Meeting

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_LAUNCHED = "TORCHELASTIC_RUN_ID"
_OF_LAUNCHER = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


class Place(NamedTuple):
    """Which of the ranks this process is.

    Attributes:
        rank: counted from 0; the first one leads: it reports, saves and measures.
        ranks: how many there are.
        store: a file by which several find each other.
    """

    rank: int
    ranks: int
    store: Path


ALONE = Place(0, 1, Path(os.devnull))


def take_place(meeting: Meeting) -> Place:
    """Find out this process's rank, and see no card but its own from now on; before torch is imported.

    The launcher's variables go: transformers would take them as an order to spread the batch and wrap the model itself, and with
    several cards in sight it would copy the model to each of them.
    """
    place = ALONE
    if _LAUNCHED in os.environ:
        place = Place(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), meeting.ranks)
    for name in _OF_LAUNCHER:
        os.environ.pop(name, None)
    if cards := visible_cards():
        os.environ["CUDA_VISIBLE_DEVICES"] = cards[place.rank]
    return place


def end_with_parent() -> None:
    """Have the kernel kill this process when the one that started it ends, whatever ended it."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
