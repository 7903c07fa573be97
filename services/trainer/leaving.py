"""What a worker says, and its end after it has said that it finished: giving memory back takes it a moment."""

from pathlib import Path
from threading import Thread

from services.trainer.launched import Launched
from services.trainer.training.job import Checkpoint, Event, Failed


class Heard:
    """What is known of a run by its events.

    Args:
        saved: the step that it can be continued from.

    Attributes:
        last: the last event, or what failed first: ranks that waited for the one which failed fail after it.
    """

    def __init__(self, saved: int) -> None:
        self.last: Event | None = None
        self.saved = saved

    def take(self, event: Event) -> None:
        """Take note of an event."""
        if not isinstance(self.last, Failed):
            self.last = event
        if isinstance(event, Checkpoint):
            self.saved = event.step


class Leaving(Thread):
    """Waits for a worker that said that it finished, and clears up.

    Args:
        launched: the worker.
        heard: of it; what it still says is taken in.
        log_file: of the run, to which its output goes.
    """

    def __init__(self, launched: Launched, heard: Heard, log_file: Path) -> None:
        super().__init__()
        self.launched, self.heard, self.log_file = launched, heard, log_file
        self._error: Exception | None = None
        self.start()

    def run(self) -> None:
        """See ``Thread.run``."""
        try:
            try:
                for event in self.launched.events():
                    self.heard.take(event)
                self.launched.child.wait()
            finally:
                self.launched.end(self.log_file)
        except Exception as error:  # noqa: BLE001 - whatever it is, ``code`` raises it
            self._error = error

    def code(self) -> int:
        """Its exit code, once this has ended.

        Raises:
            Exception: why that cannot be known, such as an event that it wrote in part.
        """
        if self._error is not None:
            raise self._error
        code: int = self.launched.child.returncode
        return code

    def hurry(self) -> None:
        """End it now: nobody wants to know how it would."""
        self.launched.child.kill()
        self.join()
