"""However the worker process ends, the trainer gets an event or one clear sentence, and nothing is left running."""

import os
import signal
import threading
import time
from pathlib import Path

import msgspec
import pytest

from services.trainer.training.job import (
    Event,
    Finished,
    Interrupted,
    MachineFailed,
    Step,
    TrainingFailed,
    TrainingJob,
)
from services.trainer.worker import ProcessWorker, Stop
from tests.support.processes import lives

BEGIN = (
    "import json, os, signal, sys, time\n"
    "pipe = open(sys.argv[1] + '/events', 'w', buffering=1)\n"
    "def emit(**event): pipe.write(json.dumps(event) + '\\n'); pipe.flush()\n"
    "step = dict(type='step', step=1, of=2, loss=1.0, learning_rate=0.1, grad_norm=1.0, tokens=5, seconds=0.5)\n"
    "finished = dict(type='finished', steps=2, train_loss=1.0, holdout_loss=None, update_norm=1.0, tokens=9, seconds=1.0, backend='x')\n"
)


def run(
    program: str, job: TrainingJob, folder: Path, stop: Stop | None = None
) -> tuple[Finished | Interrupted, list[Event]]:
    seen: list[Event] = []
    worker = ProcessWorker(stop or Stop(), folder / "cache", program=("-c", BEGIN + program))
    ended = worker(job, folder, seen.append)
    worker.settle()
    return ended, seen


def test_events_arrive_in_order_and_the_last_is_the_result(job: TrainingJob, tmp_path: Path) -> None:
    ended, seen = run("emit(**step); emit(**finished)", job, tmp_path)
    assert isinstance(ended, Finished)
    assert [type(event) for event in seen] == [Step, Finished]


def test_a_result_is_there_before_its_worker_has_ended(job: TrainingJob, tmp_path: Path) -> None:
    """Giving a card back takes a moment, which nobody has to wait for; a worker that is dismissed meanwhile is gone."""
    program = f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); emit(**finished); time.sleep(600)"
    worker = ProcessWorker(Stop(), tmp_path / "cache", program=("-c", BEGIN + program))
    assert isinstance(worker(job, tmp_path, lambda _: None), Finished)
    process = int((tmp_path / "pid").read_text())
    assert lives(process)
    worker.dismiss()
    assert not lives(process)
    worker.settle()


def test_a_request_to_stop_reaches_a_worker_that_finished_and_does_not_end(job: TrainingJob, tmp_path: Path) -> None:
    """Its adapter is whole: what it ends by is no fault of the run."""
    stop = Stop()
    worker = ProcessWorker(stop, tmp_path / "cache", program=("-c", BEGIN + "emit(**finished); time.sleep(600)"))
    assert isinstance(worker(job, tmp_path, lambda _: None), Finished)
    asking = threading.Timer(0.2, stop.ask)
    asking.start()
    worker.settle()
    asking.join()


def test_what_fails_while_a_worker_ends_is_told_to_who_waits_for_that(job: TrainingJob, tmp_path: Path) -> None:
    """Such as a disk without room: an event that it wrote in part."""
    worker = ProcessWorker(
        Stop(), tmp_path / "cache", program=("-c", BEGIN + "emit(**finished); pipe.write('{'); pipe.flush()")
    )
    assert isinstance(worker(job, tmp_path, lambda _: None), Finished)
    with pytest.raises(msgspec.DecodeError):
        worker.settle()


def test_a_worker_that_says_why_is_quoted(job: TrainingJob, tmp_path: Path) -> None:
    with pytest.raises(TrainingFailed, match=r"^the card's memory is full$"):
        run('emit(**step); emit(type="failed", reason="the card\'s memory is full")', job, tmp_path)


@pytest.mark.parametrize(
    ("program", "sentence"),
    [
        ("emit(**step); os.kill(os.getpid(), signal.SIGKILL)", "killed, as happens when the machine's memory is full"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", r"the worker died \(SIGSEGV\); .*worker.log says why"),
        ("raise SystemExit(3)", r"the worker died \(exit code 3\)"),
        ("pass", r"the worker died \(exit code 0\)"),
        ("emit(**finished); raise SystemExit(1)", r"the worker died \(exit code 1\)"),
        ("emit(**finished); emit(type='failed', reason='another card is full')", "^another card is full$"),
    ],
)
def test_a_worker_that_dies_is_explained(program: str, sentence: str, job: TrainingJob, tmp_path: Path) -> None:
    with pytest.raises(TrainingFailed, match=sentence):
        run(program, job, tmp_path)


@pytest.mark.parametrize(
    ("program", "of_machine"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", True),
        ("os.kill(os.getpid(), signal.SIGSEGV)", True),
        ("emit(type='failed', reason='the card is full', of_machine=True)", True),
        ("os.kill(os.getpid(), signal.SIGTERM)", True),
        ("emit(type='failed', reason='the loss became nan')", False),
        ("raise SystemExit(3)", False),
    ],
)
def test_what_the_machine_ended_is_told_from_what_the_recipe_ended(
    program: str,
    of_machine: bool,  # noqa: FBT001 - a parameter
    job: TrainingJob,
    tmp_path: Path,
) -> None:
    with pytest.raises(TrainingFailed) as caught:
        run(program, job, tmp_path)
    assert isinstance(caught.value, MachineFailed) == of_machine


def test_what_a_worker_prints_goes_to_its_log_and_not_to_the_operator(
    job: TrainingJob, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run("print('noise'); print('noise', file=sys.stderr); emit(**finished)", job, tmp_path)
    assert capfd.readouterr().out == ""
    assert (tmp_path / "worker.log").read_text() == "noise\nnoise\n"


@pytest.mark.parametrize(("checkpoint", "step"), [(None, 0), ("checkpoint-5000", 5000)])
def test_a_request_to_stop_before_the_worker_starts_starts_none(
    checkpoint: str | None, step: int, job: TrainingJob, tmp_path: Path
) -> None:
    resume_from = tmp_path / checkpoint if checkpoint else None
    stop = Stop()
    stop.handle(signal.SIGTERM, None)
    ended, _ = run("emit(**finished)", msgspec.structs.replace(job, resume_from=resume_from), tmp_path, stop)
    assert ended == Interrupted(step=step)
    assert not (tmp_path / "worker.log").exists()


def test_a_request_to_stop_that_kills_a_worker_which_does_not_listen_yet_loses_nothing(
    job: TrainingJob, tmp_path: Path
) -> None:
    deaf = "os.kill(os.getppid(), signal.SIGUSR1); time.sleep(30)"  # as while torch is imported
    resumed = msgspec.structs.replace(job, resume_from=tmp_path / "checkpoint-7")
    ended, _ = run(deaf, resumed, tmp_path, _stop_on(signal.SIGUSR1))
    assert ended == Interrupted(step=7)


def test_a_request_to_stop_reaches_the_worker(job: TrainingJob, tmp_path: Path) -> None:
    saves = (
        "def end(*_): emit(type='interrupted', step=1); os._exit(0)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "os.kill(os.getppid(), signal.SIGUSR1); time.sleep(30)"
    )
    ended, _ = run(saves, job, tmp_path, _stop_on(signal.SIGUSR1))
    assert ended == Interrupted(step=1)


def _stop_on(number: signal.Signals) -> Stop:
    stop = Stop()
    signal.signal(number, stop.handle)
    return stop


def test_a_trainer_that_fails_leaves_no_worker_behind(job: TrainingJob, tmp_path: Path) -> None:
    children: list[int] = []

    def break_off(_: Event) -> None:
        children.append(int((tmp_path / "pid").read_text()))
        raise ZeroDivisionError

    worker = ProcessWorker(
        Stop(),
        tmp_path / "cache",
        program=(
            "-c",
            BEGIN + f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); emit(**step); time.sleep(60)",
        ),
    )
    begun = time.monotonic()
    with pytest.raises(ZeroDivisionError):
        worker(job, tmp_path, break_off)
    assert time.monotonic() - begun < 30
    with pytest.raises(ProcessLookupError):
        os.kill(children[0], 0)


def test_a_worker_calls_nobody_and_writes_its_caches_where_it_is_told(job: TrainingJob, tmp_path: Path) -> None:
    names = [
        "HF_HUB_OFFLINE",
        "UNSLOTH_DISABLE_STATISTICS",
        "DO_NOT_TRACK",
        "UNSLOTH_COMPILE_LOCATION",
        "TRITON_CACHE_DIR",
        "HF_HOME",
        "OMP_WAIT_POLICY",
    ]
    run(f"print(*(os.environ[name] for name in {names!r})); emit(**finished)", job, tmp_path)
    cache = tmp_path / "cache"
    expected = f"1 1 1 {cache / 'unsloth'} {cache / 'triton'} {cache / 'huggingface'} PASSIVE\n"
    assert (tmp_path / "worker.log").read_text() == expected
