"""The worker's entry: ``python -m services.trainer.training MEETING``. Started by ``launched.py``, not by hand."""

import gc
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import msgspec

from services.trainer.training.backend import (
    Train,
    choose_backend,
    forget_usual_backend,
    import_usual_backend,
    rehearse_usual_backend,
)
from services.trainer.training.job import (
    Announced,
    Event,
    Failed,
    Foreseen,
    Handover,
    Loading,
    MachineFailed,
    Observer,
    Outline,
    TrainingFailed,
)
from services.trainer.training.machine import fault_of_machine
from services.trainer.training.meeting import Meeting
from services.trainer.training.place import Place, end_with_parent, take_place


class EventPipe:
    """Writes events to the trainer; a trainer that is gone ends the worker (BrokenPipeError).

    Several ranks may write to one pipe: a line is shorter than what the kernel writes at once.
    """

    def __init__(self, descriptor: int, *, leads: bool) -> None:
        """Write to an open file descriptor; a rank that does not lead only tells why it failed."""
        self._stream = os.fdopen(descriptor, "wb", buffering=0)
        self._leads = leads
        self._began = time.monotonic()
        self.stop_requested = False

    def emit(self, event: Event) -> None:
        """Send one event."""
        if self._leads or isinstance(event, Failed):
            self._stream.write(msgspec.json.encode(event) + b"\n")

    def loading(self, what: str) -> None:
        """Say what takes time before the first step."""
        self.emit(Loading(what=what, seconds=round(time.monotonic() - self._began, 2)))

    def request_stop(self, _signal: int, _frame: FrameType | None) -> None:
        """Ask the loop to save and end after the update in flight; a signal handler."""
        self.stop_requested = True


def main() -> int:
    """Train one job; 0 when it came to its end, 1 when an event says why not.

    Until the job is handed over a request to stop ends the process at once: there is nothing to save.
    """
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the trainer decides; a terminal's Ctrl-C reaches it too
    meeting = Meeting(Path(sys.argv[1]))
    place = take_place(meeting)
    pipe = EventPipe(meeting.speak(), leads=place.rank == 0)
    try:
        _train(meeting, place, pipe)
    except TrainingFailed as error:
        pipe.emit(Failed(reason=str(error), of_machine=isinstance(error, MachineFailed)))
        return 1  # upon which the launcher ends the other ranks
    except Exception as error:
        if (reason := fault_of_machine(error)) is None:
            raise  # the traceback goes to worker.log
        pipe.emit(Failed(reason=reason, of_machine=True))
        return 1
    return 0


def _train(meeting: Meeting, place: Place, pipe: EventPipe) -> None:
    """Do what can be done before the next order, then wait for it."""
    train = get_ready(meeting, place, pipe)
    handover = meeting.wait_for(Handover)
    signal.signal(signal.SIGTERM, pipe.request_stop)
    _print_to(handover.log_file)
    train(handover.job)


def get_ready(meeting: Meeting, place: Place, observer: Observer) -> Train:
    """Import, and load the base model when an outline is told; before that for one that is foreseen, and for none that is announced."""
    if meeting.was_told(Announced):
        choose_backend(meeting.wait_for(Announced).recipe, place)  # which imports it
    else:
        import_usual_backend()
    ahead = _load_ahead(meeting.wait_for(Foreseen), observer) if meeting.was_told(Foreseen) else None
    outline = meeting.wait_for(Outline)
    if ahead is not None:
        if outline.loads_as(ahead.outline):
            return ahead.train
        ahead = None  # first: its memory
        forget_usual_backend()
    return choose_backend(outline.recipe, place)(outline, observer)


class _Ahead(NamedTuple):
    """What was loaded before there was a job."""

    outline: Outline
    train: Train


def _load_ahead(outline: Outline, observer: Observer) -> _Ahead | None:
    """Rehearse and load for the job that is foreseen; None where that fails: the job's own load will say why."""
    try:
        rehearse_usual_backend(outline)
        ahead = _Ahead(outline, choose_backend(outline.recipe)(outline, observer))
        gc.collect()
        gc.freeze()  # transformers looks for garbage before its first update
        return ahead  # noqa: TRY300 - an else would stand after the many lines of what fails
    except Exception:  # noqa: BLE001 - whatever it is; most likely a card that is full for now
        traceback.print_exc()
    forget_usual_backend()
    return None


def _print_to(log_file: Path) -> None:
    """Send to ``log_file`` what this process and its libraries print."""
    sys.stdout.flush()
    sys.stderr.flush()
    with log_file.open("ab") as log:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(log.fileno(), stream.fileno())


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # every file is written; taking torch apart would cost the trainer, which waits, another second
