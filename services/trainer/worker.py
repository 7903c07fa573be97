"""Runs a job in a worker process: passes its events on, passes a request to stop in, explains how it died."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Protocol

import msgspec

from services.trainer.checkpoints import step_of
from services.trainer.training.job import (
    Event,
    Failed,
    Finished,
    Interrupted,
    MachineFailed,
    TrainingFailed,
    TrainingJob,
    write_job,
)


class Worker(Protocol):
    """Trains a job somewhere else and reports."""

    def __call__(self, job: TrainingJob, folder: Path, on_event: Callable[[Event], None], /) -> Finished | Interrupted:
        """Run ``job``; scratch and log files go to ``folder``.

        Raises:
            TrainingFailed: one sentence on why there is no adapter.
            MachineFailed: likewise, and what was saved can be continued.
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
    """A child process of the same interpreter; its memory, the card's included, is free when it ends."""

    def __init__(
        self, stop: Stop, cache: Path, *, program: Sequence[str] = ("-m", "services.trainer.training")
    ) -> None:
        """Pass ``stop`` on to the child; let its compilers write below ``cache`` only."""
        self._stop = stop
        self._cache = cache
        self._program = program

    def __call__(self, job: TrainingJob, folder: Path, on_event: Callable[[Event], None]) -> Finished | Interrupted:
        """See ``Worker``."""
        if self._stop.requested:
            return _as_it_was(job)
        job_file, log_file = folder / "job.json", folder / "worker.log"
        write_job(job_file, job)
        last: Event | None = None
        reader, writer = os.pipe()
        with os.fdopen(reader, "rb") as events, log_file.open("ab") as log:
            try:
                child = subprocess.Popen(  # noqa: S603 - our own module, no shell
                    [sys.executable, *self._program, str(job_file), str(writer)],
                    pass_fds=(writer,),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=worker_environment(self._cache),
                    start_new_session=True,  # Ctrl-C in a terminal reaches this process only; it passes the request on
                )
            finally:
                os.close(writer)
            with self._stop.passed_to(child):
                try:
                    for line in events:
                        last = msgspec.json.decode(line, type=Event)
                        on_event(last)
                finally:
                    if child.poll() is None and sys.exc_info()[0] is not None:
                        child.kill()
                    child.wait()
        return self._end(job, last, child.returncode, log_file)

    def _end(self, job: TrainingJob, last: Event | None, code: int, log_file: Path) -> Finished | Interrupted:
        if isinstance(last, Failed):
            raise MachineFailed(last.reason) if last.of_machine else TrainingFailed(last.reason)
        if code == 0 and isinstance(last, Finished | Interrupted):
            return last
        if code == -signal.SIGTERM and self._stop.requested:
            return _as_it_was(job)  # the request came before the worker listened for it, so before its first update
        if code < 0:
            raise MachineFailed(_cause_of_death(code, log_file))
        raise TrainingFailed(_cause_of_death(code, log_file))


def _as_it_was(job: TrainingJob) -> Interrupted:
    return Interrupted(step=step_of(job.resume_from) if job.resume_from else 0)


def worker_environment(cache: Path) -> dict[str, str]:
    """This process's environment, with every cache below one folder and every call to the outside switched off."""
    return os.environ | {
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "DO_NOT_TRACK": "1",
        "UNSLOTH_DISABLE_STATISTICS": "1",
        "HF_HOME": str(cache / "huggingface"),
        "UNSLOTH_COMPILE_LOCATION": str(cache / "unsloth"),
        "TRITON_CACHE_DIR": str(cache / "triton"),
        "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor"),
        "TOKENIZERS_PARALLELISM": "false",
    }


def _cause_of_death(code: int, log_file: Path) -> str:
    if code == -signal.SIGKILL:
        return f"the worker was killed, as happens when the machine's memory is full; lower recipe.rows_per_pass or recipe.max_length ({log_file} has its output)"
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return f"the worker died ({how}); {log_file} says why"
