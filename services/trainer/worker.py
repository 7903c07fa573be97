"""Runs a job in worker processes, one for each card: passes their events on, passes a request to stop in, explains how they died."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Protocol

import msgspec
import structlog

from services.trainer.cards import choose_cards, visible_cards
from services.trainer.checkpoints import step_of
from services.trainer.launched import Launched
from services.trainer.leaving import Heard, Leaving
from services.trainer.training.job import (
    Announced,
    Event,
    Failed,
    Finished,
    Foreseen,
    Handover,
    Interrupted,
    MachineFailed,
    Outline,
    TrainingFailed,
    TrainingJob,
)
from services.trainer.training.meeting import Meeting


class Worker(Protocol):
    """Trains a job somewhere else and reports."""

    def announce(self, outline: Outline, /) -> None:
        """Start what a job of this outline needs, whose rows are still read: libraries are imported, no model is loaded.

        Raises:
            TrainingFailed: it asks for what this machine lacks.
        """

    def expect(self, outline: Outline, /) -> None:
        """Load the base model for a job of this outline, whose rows have passed.

        Raises:
            TrainingFailed: as ``announce``.
        """

    def dismiss(self) -> None:
        """No longer be ready; after a job, too."""

    def __call__(self, job: TrainingJob, folder: Path, on_event: Callable[[Event], None], /) -> Finished | Interrupted:
        """Run ``job``; scratch and log files go to ``folder``. The adapter is whole before its worker has ended.

        Raises:
            TrainingFailed: one sentence on why there is no adapter.
            MachineFailed: likewise, and what was saved can be continued.
        """

    def settle(self) -> None:
        """Wait until the last job's worker has ended: then its memory is free, the card's included.

        Raises:
            TrainingFailed: it ended otherwise than it had said.
            MachineFailed: likewise.
        """


class Stop:
    """Whether what runs now is to end: this process was asked to (SIGTERM, Ctrl-C), or its job's owner wishes it.

    Attributes:
        signalled: the process is to end.
        wished: the job under way is to end; the queue says what becomes of it.
    """

    def __init__(self) -> None:
        """Nobody asked yet."""
        self.signalled = False
        self.wished = False
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def requested(self) -> bool:
        """Whether anybody asked."""
        return self.signalled or self.wished

    @contextmanager
    def passed_to(self, child: "subprocess.Popen[bytes]") -> Iterator[None]:
        """Pass a request on to ``child`` while the block runs."""
        self._child = child
        if self.requested:
            child.send_signal(signal.SIGTERM)
        try:
            yield
        finally:
            self._child = None

    def handle(self, _signal: int, _frame: FrameType | None) -> None:
        """Take a signal; a handler for ``signal.signal``."""
        self.signalled = True
        self._pass_on()

    def ask(self) -> None:
        """Take the wish of a job's owner; from any thread."""
        self.wished = True
        self._pass_on()

    def forget(self) -> None:
        """Begin another job: what was wished of the one before is done."""
        self.wished = False

    def _pass_on(self) -> None:
        child = self._child
        if child is not None and child.poll() is None:
            child.send_signal(signal.SIGTERM)


class ProcessWorker:
    """A child process of the same interpreter, or one for each card; its memory, the card's included, is free when it ends.

    It can be started before there is a job for it: what takes time then happens beside what its job waits for.
    """

    def __init__(
        self,
        stop: Stop,
        cache: Path,
        *,
        program: Sequence[str] = ("-m", "services.trainer.training"),
        cards: Callable[[], Sequence[str]] = visible_cards,
    ) -> None:
        """Pass ``stop`` on to the child; let its compilers write below ``cache`` only; use some of the ``cards``."""
        self._stop = stop
        self._cache = cache
        self._program = program
        self._cards = cards
        self._launched: Launched | None = None
        self._outline: Outline | None = None
        self._leaving: Leaving | None = None

    def start(self, foreseen: Foreseen | None = None) -> None:
        """Start a worker for whatever job comes: it imports what most need, and takes nothing of the card unless a job is ``foreseen``.

        Where there are several cards a job decides how many processes there are, so there it is none.
        """
        if self._launched is not None or len(self._cards()) > 1:
            return
        if foreseen is None or foreseen.recipe.backend == "unsloth":
            self._launched = Launched(self._worker, self._cache)
        else:
            self._launched = Launched(lambda meeting: _told(meeting, foreseen, self._worker), self._cache)

    def announce(self, outline: Outline) -> None:
        """See ``Worker``."""
        if self._stop.requested:
            return
        if self._launched is None or not self._launched.lives or not self._fits(outline):
            self.dismiss()
            command, announced = self._command(outline), Announced(**msgspec.structs.asdict(outline))
            self._launched = Launched(lambda meeting: _told(meeting, announced, command), self._cache)
        self._outline = outline

    def expect(self, outline: Outline) -> None:
        """See ``Worker``."""
        self.announce(outline)
        if self._launched is not None:
            self._launched.tell(outline)

    def _fits(self, outline: Outline) -> bool:
        """Whether what was started can do a job like this; Unsloth has to be imported before what is."""
        return self._outline == outline if self._outline is not None else outline.recipe.backend != "unsloth"

    def dismiss(self) -> None:
        """See ``Worker``."""
        if self._launched is not None:
            self._launched.end()
        if self._leaving is not None:
            self._leaving.hurry()
        self._launched = self._outline = self._leaving = None

    def __call__(self, job: TrainingJob, folder: Path, on_event: Callable[[Event], None]) -> Finished | Interrupted:
        """See ``Worker``."""
        if self._stop.requested:
            return Interrupted(step=_saved_before(job))
        self.expect(job.outline)
        launched, log_file, heard = self._launched, folder / "worker.log", Heard(_saved_before(job))
        if launched is None:
            return Interrupted(step=_saved_before(job))  # asked to stop just now
        self._launched = self._outline = None
        try:
            with self._stop.passed_to(launched.child):
                launched.tell(Handover(job=job, log_file=log_file))
                for event in launched.events():
                    heard.take(event)
                    on_event(event)
                    if isinstance(heard.last, Finished):
                        break
                else:
                    launched.child.wait()
        except BaseException:
            launched.end(log_file)
            raise
        if isinstance(heard.last, Finished):
            self._leaving = Leaving(launched, heard, log_file)
            return heard.last
        return self._end(heard, launched.end(log_file), log_file)

    def settle(self) -> None:
        """See ``Worker``."""
        leaving, self._leaving = self._leaving, None
        if leaving is not None:
            with self._stop.passed_to(leaving.launched.child):
                leaving.join()
            self._end(leaving.heard, leaving.code(), leaving.log_file)

    def _worker(self, meeting: Meeting) -> list[str]:
        return [sys.executable, *self._program, str(meeting.folder)]

    def _command(self, outline: Outline) -> Callable[[Meeting], list[str]]:
        """What trains a job: one process, or torchrun where it is to be several, for its start takes seconds.

        Raises:
            TrainingFailed: as ``choose_cards``.
        """
        seen = len(self._cards())
        cards, why = choose_cards(outline, seen)
        if seen > 1:
            structlog.get_logger().info("cards", seen=seen, used=cards, why=why)
        if cards == 1:
            return self._worker

        def torchrun(meeting: Meeting) -> list[str]:
            several = [f"--nproc-per-node={cards}", f"--log-dir={meeting.folder}", "--local-addr=localhost"]
            # Through a file, where --standalone would open a port to everyone.
            by_file = ["--rdzv-backend=c10d", f"--rdzv-endpoint={meeting.launcher}", "--rdzv-conf=store_type=file"]
            worker = [*self._program, str(meeting.folder)]
            return [sys.executable, "-m", "services.trainer.training.launch", *several, *by_file, *worker]

        return torchrun

    def _end(self, heard: Heard, code: int, log_file: Path) -> Finished | Interrupted:
        last, stopped = heard.last, code == -signal.SIGTERM and self._stop.requested
        if isinstance(last, Failed):
            raise MachineFailed(last.reason) if last.of_machine else TrainingFailed(last.reason)
        if isinstance(last, Finished | Interrupted) and (code == 0 or stopped):
            return last  # torchrun ends by the signal that it passed on, however well its workers ended
        if stopped:
            return Interrupted(step=heard.saved)  # they did not listen yet, or took too long
        if code < 0:
            raise MachineFailed(_cause_of_death(code, log_file))
        raise TrainingFailed(_cause_of_death(code, log_file))


def _saved_before(job: TrainingJob) -> int:
    return step_of(job.resume_from) if job.resume_from else 0


def _told(meeting: Meeting, outline: Outline, command: Callable[[Meeting], list[str]]) -> list[str]:
    """Leave the outline for a worker before it starts: it need not guess."""
    meeting.tell(outline)
    return command(meeting)


def _cause_of_death(code: int, log_file: Path) -> str:
    if code == -signal.SIGKILL:
        return f"the worker was killed, as happens when the machine's memory is full; lower recipe.rows_per_pass or recipe.max_length ({log_file} has its output)"
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return f"the worker died ({how}); {log_file} says why"
