"""The worker's entry: ``python -m services.trainer.training JOB EVENTS_FD``. Started by ``worker.py``, not by hand."""

import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType

import msgspec

from services.trainer.training.backend import choose_backend
from services.trainer.training.job import Event, Failed, Loading, MachineFailed, TrainingFailed, TrainingJob, read_job


class EventPipe:
    """Writes events to the trainer; a trainer that is gone ends the worker (BrokenPipeError)."""

    def __init__(self, descriptor: int) -> None:
        """Write to an open file descriptor."""
        self._stream = os.fdopen(descriptor, "wb", buffering=0)
        self._began = time.monotonic()
        self.stop_requested = False

    def emit(self, event: Event) -> None:
        """Send one event."""
        self._stream.write(msgspec.json.encode(event) + b"\n")

    def loading(self, what: str) -> None:
        """Say what takes time before the first step."""
        self.emit(Loading(what=what, seconds=round(time.monotonic() - self._began, 2)))

    def request_stop(self, _signal: int, _frame: FrameType | None) -> None:
        """Ask the loop to save and end after the update in flight; a signal handler."""
        self.stop_requested = True


def main() -> int:
    """Train one job; 0 when an event says how it ended."""
    job_file, descriptor = Path(sys.argv[1]), int(sys.argv[2])
    pipe = EventPipe(descriptor)
    signal.signal(signal.SIGTERM, pipe.request_stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the trainer decides; a terminal's Ctrl-C reaches it too
    job = read_job(job_file, TrainingJob)
    try:
        choose_backend(job.recipe)(job, pipe)
    except TrainingFailed as error:
        pipe.emit(Failed(reason=str(error), of_machine=isinstance(error, MachineFailed)))
    except Exception as error:
        if (reason := fault_of_machine(error)) is None:
            raise  # the traceback goes to worker.log
        pipe.emit(Failed(reason=reason, of_machine=True))
    return 0


def fault_of_machine(error: Exception) -> str | None:
    """One sentence where memory or disk is to blame, whatever library says so; None where neither is."""
    words = str(error)
    if isinstance(error, MemoryError) or "can't allocate memory" in words:
        return "out of memory; lower recipe.rows_per_pass or recipe.max_length"
    if isinstance(error, OSError) and error.errno is not None:
        return f"{error.filename or 'a file'}: {error.strerror}; check the data volume and its free space"
    # torch.save and safetensors tell of a full disk in errors of their own.
    if any(mark in words for mark in ("enforce fail at inline_container", "iostream error", "os error")):
        return "a checkpoint cannot be written; check the data volume and its free space"
    return None


if __name__ == "__main__":
    sys.exit(main())
