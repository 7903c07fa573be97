"""Jobs in processes of their own, one of which may wait as a spare: it has imported what takes seconds, and has no job yet."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Protocol, Self

import structlog

from services.common.settings import SettingsError
from services.jobs.records import Failure, Job
from services.trainer.work.desk import Desk
from services.trainer.worker import Stop

DIED = "machine_failed"
_PROGRAM = ("-m", "services.trainer.work")
_AGAIN_SECONDS = 60.0  # between two spares that died: what kills one at once would kill them one after another
_END_SECONDS = 10.0


class Surroundings(Protocol):
    """What a spare depends on; see ``surroundings``."""

    def __call__(self) -> object:
        """Equal as long as nothing has changed."""


class JobProcesses:
    """Has a job done by a process of its own: what it imports and allocates is gone afterwards, and its death is not the worker's."""

    def __init__(
        self,
        desk: Desk,
        stop: Stop,
        *,
        warm: Callable[[], bool],
        surroundings: Surroundings,
        program: Sequence[str] = _PROGRAM,
        again_seconds: float = _AGAIN_SECONDS,
    ) -> None:
        """Pass ``stop`` on to a job's process; keep a spare where ``warm`` says so, and none whose ``surroundings`` have changed.

        Args:
            desk: the queue.
            stop: asked to end.
            warm: reads the setting; may raise ``SettingsError``.
            surroundings: compared whenever a spare is to be of use.
            program: arguments of this interpreter; reads the job's id from its standard input.
            again_seconds: after a spare that died the next begins no sooner than so long after it.
        """
        self._desk = desk
        self._stop = stop
        self._warm = warm
        self._surroundings = surroundings
        self._program = program
        self._again_seconds = again_seconds
        self._held: int | None = None
        self._spare: _Spare | None = None
        self._began_another = -again_seconds

    def holding(self, descriptor: int) -> Self:
        """Have every process inherit the descriptor that holds the queue: while any lives, nobody else is the worker."""
        self._held = descriptor
        return self

    def get_ready(self) -> None:
        """Keep a spare that is as good as a process which begins now; called while no job waits."""
        now = self._surroundings()
        if self._spare is not None:
            if self._spare.fits(now):
                return
            if self._spare.lives:
                structlog.get_logger().info("the spare worker is replaced: code, settings or base model have changed")
            elif time.monotonic() - self._began_another < self._again_seconds:
                return
            self.dismiss()
        if self._wanted():
            self._began_another = time.monotonic()
            self._spare = _Spare(self._start(), now)

    def _wanted(self) -> bool:
        try:
            return self._warm()
        except SettingsError:
            return False  # the next job says what is wrong, to whom it concerns

    def dismiss(self) -> None:
        """End the spare."""
        if self._spare is not None:
            _end(self._spare.process)
        self._spare = None

    def __call__(self, job: Job) -> None:
        """See ``Doing``."""
        child = self._told(job)
        with self._stop.passed_to(child):
            code = child.wait()
        if self._desk.queue.get(job.id).status != "running":
            return
        if self._stop.signalled:
            self._desk.work.stop(job.id)
        else:
            reason = f"the job's process died (exit code {code}), as happens when the machine's memory is full; the trainer's log says more"
            self._desk.work.fail(job.id, Failure(code=DIED, message=reason), outcome={"error": reason})

    def _told(self, job: Job) -> "subprocess.Popen[bytes]":
        """A process that has been given ``job``: the spare, where it is good."""
        spare, self._spare = self._spare, None
        if spare is not None:
            if spare.fits(self._surroundings()) and _tell(spare.process, job):
                return spare.process
            _end(spare.process)
        child = self._start()
        _tell(child, job)  # where it is dead already its exit code says so
        return child

    def _start(self) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(  # noqa: S603 - our own module, no shell
            [sys.executable, *self._program],
            pass_fds=() if self._held is None else (self._held,),
            stdin=subprocess.PIPE,
            env=os.environ,
            start_new_session=True,  # Ctrl-C in a terminal reaches this process only; it passes the request on
        )


class _Spare:
    """A process without a job, and what it depends on."""

    def __init__(self, process: "subprocess.Popen[bytes]", surroundings: object) -> None:
        self.process = process
        self._surroundings = surroundings

    @property
    def lives(self) -> bool:
        return self.process.poll() is None

    def fits(self, surroundings: object) -> bool:
        return self.lives and self._surroundings == surroundings


def _tell(process: "subprocess.Popen[bytes]", job: Job) -> bool:
    """Give a process its job; whether it still took it."""
    assert process.stdin is not None  # noqa: S101 - for mypy: it was started with a pipe
    try:
        process.stdin.write(job.id.encode() + b"\n")
        process.stdin.close()
    except BrokenPipeError:
        return False
    return True


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Ask a process to end, and wait until it has."""
    process.terminate()
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdin is not None and not process.stdin.closed:
        process.stdin.close()
