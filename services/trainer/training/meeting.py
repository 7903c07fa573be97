"""Where the processes of one launch find each other: a folder with orders, a pipe to the trainer and what ranks meet by."""

import os
import time
from pathlib import Path
from typing import TypeVar

import msgspec

from services.trainer.training.job import read_job, write_job

_POLL_SECONDS = 0.02  # of a spare worker, day and night: a thousandth of a core
_Order = TypeVar("_Order", bound=msgspec.Struct)


class Meeting:
    """A folder that belongs to one launch.

    Args:
        folder: empty when the launch begins, and removed after it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def launcher(self) -> Path:
        """What the launcher of several processes keeps for itself."""
        return self.folder / "launcher"

    @property
    def ranks(self) -> Path:
        """By which ranks find each other: a file, so that no port is open while they do."""
        return self.folder / "ranks"

    def listen(self) -> tuple[int, int]:
        """Make the pipe of events; for the trainer.

        It has a name, because a launcher's children inherit no descriptors.

        Returns:
            its end to read, and an end to write, which whoever is started inherits: what is read ends when no process of the
            launch lives.
        """
        os.mkfifo(self._events, 0o600)
        reader = os.open(self._events, os.O_RDONLY | os.O_NONBLOCK)  # which waits for no writer
        os.set_blocking(reader, True)
        return reader, os.open(self._events, os.O_WRONLY)

    def speak(self) -> int:
        """Open the pipe to write; for the trainer's workers.

        Raises:
            OSError: the trainer listens no more.
        """
        writer = os.open(self._events, os.O_WRONLY | os.O_NONBLOCK)  # which waits for no reader
        os.set_blocking(writer, True)
        return writer

    def tell(self, order: msgspec.Struct) -> None:
        """Give every process of the launch an order, one of each kind; for the trainer.

        It is a file, because a launcher's children share their standard input.
        """
        file = self._order(type(order))
        unfinished = file.with_suffix(".new")
        write_job(unfinished, order)
        unfinished.rename(file)

    def was_told(self, kind: type[msgspec.Struct]) -> bool:
        """Whether an order of this kind was given already."""
        return self._order(kind).exists()

    def wait_for(self, kind: type[_Order]) -> _Order:
        """Wait for an order, however long it takes; for the trainer's workers, which end with the trainer."""
        self.wait_for_any(kind)
        return read_job(self._order(kind), kind)

    def wait_for_any(self, *kinds: type[msgspec.Struct]) -> None:
        """Wait until one order of several was given; likewise."""
        while not any(map(self.was_told, kinds)):
            time.sleep(_POLL_SECONDS)

    def _order(self, kind: type[msgspec.Struct]) -> Path:
        return self.folder / f"{kind.__name__.lower()}.json"

    @property
    def _events(self) -> Path:
        return self.folder / "events"
