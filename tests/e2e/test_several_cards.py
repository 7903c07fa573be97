"""Several real processes, as torchrun starts them, train one adapter: on a CPU with gloo, where on cards it is NCCL."""

import os
import signal
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
import torch
from safetensors.torch import load_file

from services.trainer.checkpoints import newest_whole
from services.trainer.training.job import Event, Finished, Interrupted, MachineFailed, Step, TrainingJob
from services.trainer.worker import ProcessWorker, Stop
from tests.unit.trainer.tiny import ROWS, TinyRuns, write_rows

pytestmark = pytest.mark.e2e


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TinyRuns:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # the ranks' command lines name a folder in it
    return TinyRuns(tmp_path)


def train(
    job: TrainingJob, cards: int, *, stop: Stop | None = None, on_event: Callable[[Event], None] = lambda _: None
) -> tuple[Finished | Interrupted, list[Step]]:
    """Train on so many cards; the result and the updates."""
    steps: list[Step] = []

    def take(event: Event) -> None:
        if isinstance(event, Step):
            steps.append(event)
        on_event(event)

    folder = job.adapter_folder.parent
    worker = ProcessWorker(stop or Stop(), folder / "cache", cards=lambda: ["0"] * cards)
    return worker(msgspec.structs.replace(job, cards=cards), folder, take), steps


def numbers(steps: list[Step]) -> list[float]:
    return [number for step in steps for number in (step.loss, step.grad_norm)]


def test_three_ranks_train_the_adapter_that_one_trains(runs: TinyRuns) -> None:
    """An update has fewer rows than there are ranks, so that one has none; the first rank measures and saves for all."""
    rows = write_rows(runs.root / "rows", ROWS)
    one, steps_of_one = train(runs.job("one", rows=rows, holdout=rows), 1)
    three, steps = train(runs.job("three", rows=rows, holdout=rows), 3)
    assert isinstance(one, Finished)
    assert isinstance(three, Finished)
    assert [step.step for step in steps] == [1, 2, 3, 4]
    assert numbers(steps) == pytest.approx(numbers(steps_of_one), rel=1e-5)
    assert [(step.tokens, step.accuracy) for step in steps] == [(step.tokens, step.accuracy) for step in steps_of_one]
    assert three.holdout_loss == pytest.approx(one.holdout_loss, rel=1e-5)
    assert three.backend == f"{one.backend}, 3 cards"
    adapters = [load_file(runs.root / name / "adapter" / "adapter_model.safetensors") for name in ("one", "three")]
    for name, weight in adapters[0].items():
        torch.testing.assert_close(adapters[1][name], weight, rtol=1e-4, atol=1e-6)


def test_ranks_that_are_asked_to_stop_save_one_state_from_which_they_go_on(runs: TinyRuns) -> None:
    """The updates are those of a run that nobody stopped."""
    rows = write_rows(runs.root / "rows", ROWS)
    whole, steps_of_whole = train(runs.job("whole", rows=rows, max_steps=40), 2)
    stop = Stop()

    def ask(event: Event) -> None:
        if isinstance(event, Step) and event.step == 3:
            stop.ask()

    job = runs.job("parts", rows=rows, max_steps=40)
    interrupted, before = train(job, 2, stop=stop, on_event=ask)
    assert isinstance(interrupted, Interrupted)
    assert 3 <= interrupted.step < 40
    saved = newest_whole(job.checkpoints_folder)
    assert saved is not None
    assert [entry.name for entry in job.checkpoints_folder.iterdir()] == [f"checkpoint-{interrupted.step}"]
    finished, after = train(runs.job("parts", rows=rows, max_steps=40, resume=True), 2)
    assert isinstance(finished, Finished)
    assert isinstance(whole, Finished)
    assert [step.step for step in [*before, *after]] == list(range(1, 41))
    assert numbers([*before, *after]) == pytest.approx(numbers(steps_of_whole), rel=1e-6)
    assert finished.update_norm == pytest.approx(whole.update_norm, rel=1e-6)


def test_a_rank_that_is_killed_ends_the_others_and_leaves_a_run_that_can_be_continued(runs: TinyRuns) -> None:
    """As when memory is full; the launcher's own exit code would not tell."""
    job = runs.job("killed", rows=write_rows(runs.root / "rows", ROWS), max_steps=100_000)
    seen: list[int] = []

    def kill(event: Event) -> None:
        if isinstance(event, Step) and not seen:
            seen.extend(ranks_of(job))
            os.kill(seen[-1], signal.SIGKILL)

    with pytest.raises(MachineFailed, match="killed, as happens when the machine's memory is full"):
        train(job, 2, on_event=kill)
    assert len(seen) == 2
    assert gone(seen)


def test_a_trainer_that_fails_leaves_no_rank_behind(runs: TinyRuns) -> None:
    job = runs.job("left", rows=write_rows(runs.root / "rows", ROWS), max_steps=100_000)
    seen: list[int] = []

    def break_off(event: Event) -> None:
        if isinstance(event, Step):
            seen.extend(ranks_of(job))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train(job, 2, on_event=break_off)
    assert len(seen) == 2
    assert gone(seen)


@pytest.mark.parametrize("listening", ["nobody", "the launcher"])
def test_a_request_to_stop_before_the_ranks_listen_loses_nothing(listening: str, runs: TinyRuns) -> None:
    """While torch is imported, by the launcher or by what it launched."""
    job, stop = runs.job("deaf", rows=write_rows(runs.root / "rows", ROWS)), Stop()

    def ask() -> None:
        time.sleep(0.5)
        while listening == "the launcher" and not ranks_of(job):
            time.sleep(0.05)
        stop.ask()

    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask)
        ended, steps = train(job, 2, stop=stop)
        asked.result()
    assert isinstance(ended, Interrupted)
    assert ended.step == len(steps) <= 1


def ranks_of(job: TrainingJob) -> list[int]:
    """The processes that train ``job``, without their launcher, in the order in which they were started."""
    scratch, found = str(job.adapter_folder.parent.parent).encode(), []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().strip(b"\0").split(b"\0")
        except OSError:
            continue  # it ended
        if words[-1].startswith(scratch) and b"services.trainer.training.launch" not in words:
            found.append(int(entry.name))
    return sorted(found)


def gone(processes: list[int]) -> bool:
    """Whether they end within seconds."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        if not any(Path(f"/proc/{process}").exists() for process in processes):
            return True
        time.sleep(0.1)
    return False
