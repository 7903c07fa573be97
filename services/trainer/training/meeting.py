"""Where the processes of one launch find each other: a folder with a pipe to the trainer and what ranks meet by."""

import os
from pathlib import Path


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

    @property
    def _events(self) -> Path:
        return self.folder / "events"
