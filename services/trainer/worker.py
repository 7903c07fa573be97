"""Runs a job in worker processes, one for each card: passes their events on, passes a request to stop in, explains how they died."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Protocol

import msgspec
import structlog

from services.trainer.cards import choose_cards, visible_cards
from services.trainer.checkpoints import step_of
from services.trainer.training.job import (
    Checkpoint,
    Event,
    Failed,
    Finished,
    Interrupted,
    MachineFailed,
    TrainingFailed,
    TrainingJob,
    write_job,
)
from services.trainer.training.meeting import Meeting


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
    """A child process of the same interpreter, or one for each card; its memory, the card's included, is free when it ends."""

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

    def __call__(self, job: TrainingJob, folder: Path, on_event: Callable[[Event], None]) -> Finished | Interrupted:
        """See ``Worker``."""
        if self._stop.requested:
            return Interrupted(step=_saved_before(job))
        log_file = folder / "worker.log"
        heard = _Heard(job)

        def take(event: Event) -> None:
            heard.take(event)
            on_event(event)

        with tempfile.TemporaryDirectory(dir=folder, prefix="meeting-") as name:
            meeting = Meeting(Path(name))
            command = self._command(job, folder / "job.json", meeting)
            code = self._run(command, meeting, log_file, take)
        return self._end(heard, code, log_file)

    def _run(self, command: Sequence[str], meeting: Meeting, log_file: Path, on_event: Callable[[Event], None]) -> int:
        """Run ``command`` to its end; its exit code."""
        reader, writer = meeting.listen()
        with os.fdopen(reader, "rb") as events, log_file.open("ab") as log:
            try:
                child = subprocess.Popen(  # noqa: S603 - our own module, no shell
                    command,
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
                        on_event(msgspec.json.decode(line, type=Event))
                finally:
                    if child.poll() is None and sys.exc_info()[0] is not None:
                        child.kill()
                    child.wait()
        return child.returncode

    def _command(self, job: TrainingJob, job_file: Path, meeting: Meeting) -> list[str]:
        """What trains ``job``: one process, or torchrun where it is to be several, for its start takes seconds.

        Raises:
            TrainingFailed: as ``choose_cards``.
        """
        write_job(job_file, job)
        seen = len(self._cards())
        cards, why = choose_cards(job, seen)
        if seen > 1:
            structlog.get_logger().info("cards", seen=seen, used=cards, why=why)
        worker = [*self._program, str(job_file), str(meeting.folder)]
        if cards == 1:
            return [sys.executable, *worker]
        torchrun = [f"--nproc-per-node={cards}", f"--log-dir={meeting.folder}", "--local-addr=localhost"]
        # Through a file, where --standalone would open a port to everyone.
        by_file = ["--rdzv-backend=c10d", f"--rdzv-endpoint={meeting.launcher}", "--rdzv-conf=store_type=file"]
        return [sys.executable, "-m", "services.trainer.training.launch", *torchrun, *by_file, *worker]

    def _end(self, heard: "_Heard", code: int, log_file: Path) -> Finished | Interrupted:
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


class _Heard:
    """What is known of a run by its events.

    Attributes:
        last: the last event, or what failed first: ranks that waited for the one which failed fail after it.
        saved: the step that it can be continued from.
    """

    def __init__(self, job: TrainingJob) -> None:
        self.last: Event | None = None
        self.saved = _saved_before(job)

    def take(self, event: Event) -> None:
        """Take note of an event."""
        if not isinstance(self.last, Failed):
            self.last = event
        if isinstance(event, Checkpoint):
            self.saved = event.step


def _saved_before(job: TrainingJob) -> int:
    return step_of(job.resume_from) if job.resume_from else 0


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
        # Ranks talk within this host; in a container without a network there is no other interface.
        "NCCL_SOCKET_IFNAME": "lo",
        "GLOO_SOCKET_IFNAME": "lo",
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",  # they meet by a file
    }


def _cause_of_death(code: int, log_file: Path) -> str:
    if code == -signal.SIGKILL:
        return f"the worker was killed, as happens when the machine's memory is full; lower recipe.rows_per_pass or recipe.max_length ({log_file} has its output)"
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return f"the worker died ({how}); {log_file} says why"
