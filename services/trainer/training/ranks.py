"""What ranks do together, through PyTorch's process group: NCCL between cards, gloo between processes on a CPU."""

from typing import Protocol

import torch
from torch import distributed

from services.trainer.training.job import Event, Observer
from services.trainer.training.place import Place


class Ranks(Protocol):
    """The ranks of one training run."""

    rank: int
    count: int

    def share(self, tensor: torch.Tensor) -> None:
        """Give everyone the first rank's values, in place."""

    def add_up(self, tensor: torch.Tensor) -> None:
        """Give everyone the sum over all ranks, in place; they wait for each other."""

    def part(self) -> None:
        """End the group; every rank calls it at the same point."""


class Alone:
    """A single rank."""

    rank, count = 0, 1

    def share(self, tensor: torch.Tensor) -> None:
        """See ``Ranks``."""

    def add_up(self, tensor: torch.Tensor) -> None:
        """See ``Ranks``."""

    def part(self) -> None:
        """See ``Ranks``."""


class Group:
    """Several ranks, each in a process of its own; waits until all are there.

    Args:
        place: of this one.
    """

    def __init__(self, place: Place) -> None:
        self.rank, self.count, _ = place
        card = torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else None
        distributed.init_process_group(
            "gloo" if card is None else "nccl",
            store=distributed.FileStore(str(place.store), place.ranks),
            rank=place.rank,
            world_size=place.ranks,
            device_id=card,
        )

    def share(self, tensor: torch.Tensor) -> None:
        """See ``Ranks``."""
        distributed.broadcast(tensor, src=0)

    def add_up(self, tensor: torch.Tensor) -> None:
        """See ``Ranks``."""
        distributed.all_reduce(tensor)

    def part(self) -> None:
        """See ``Ranks``."""
        distributed.destroy_process_group()


def meet(place: Place) -> Ranks:
    """The ranks that this process is one of."""
    return Alone() if place.ranks == 1 else Group(place)


class AgreeingObserver:
    """An observer whose request to stop counts from the update on at which every rank has heard of it.

    A signal reaches ranks at different moments; one that stopped at an update by itself would leave the others waiting.

    Args:
        observer: of this rank.

    Attributes:
        stop_requested: what all ranks have agreed on.
    """

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self.stop_requested = False

    @property
    def asks(self) -> bool:
        """Whether this rank was asked to stop."""
        return self._observer.stop_requested

    def emit(self, event: Event) -> None:
        """See ``Observer``."""
        self._observer.emit(event)

    def loading(self, what: str) -> None:
        """See ``Observer``."""
        self._observer.loading(what)
