"""On a terminal a bar with loss, speed and time left; elsewhere a line in the log; the same events in the run's folder."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from rich.console import Console
from structlog.testing import capture_logs

from services.trainer.progress import RunLog
from services.trainer.training.job import Checkpoint, Event, Loading, Step


@pytest.fixture(autouse=True)
def fresh_logger() -> Iterator[None]:
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()


def step(number: int, *, seconds: float) -> Step:
    return Step(
        step=number,
        of=40,
        loss=1.0 / number,
        learning_rate=1e-4,
        grad_norm=1.0,
        tokens=1000 * number,
        seconds=seconds,
    )


EVENTS: list[Event] = [
    Loading(what="base model", seconds=0.1),
    step(1, seconds=5.0),
    step(4, seconds=7.0),
    Checkpoint(step=4, folder="checkpoint-4"),
]


def told(folder: Path, *, terminal: bool, events: list[Event] = EVENTS) -> str:
    """What stays on the screen after ``events``."""
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=terminal, width=120, color_system=None)
    with RunLog(folder / "events.jsonl", folder / "loss.svg", title="acme", console=console) as log:
        for event in events:
            log(event)
    return screen.getvalue()


def test_on_a_terminal_there_is_a_bar_and_no_log_line(tmp_path: Path) -> None:
    with capture_logs() as lines:
        loading, training = (told(tmp_path, terminal=True, events=EVENTS[:count]) for count in (1, 3))
    assert "loading: base model" in loading.splitlines()[-2]
    for part in ("training", "4/40", "loss 0.2500  1,500 tokens/s left"):
        assert part in training.splitlines()[-2]
    assert training.endswith("\x1b[?25h"), "the cursor is shown again"
    assert lines == []


def test_elsewhere_there_is_a_log_line_and_no_bar(tmp_path: Path) -> None:
    with capture_logs() as lines:
        screen = told(tmp_path, terminal=False)
    assert screen == ""
    assert [line["event"] for line in lines] == ["loading", "training"]
    assert lines[1] == {
        "event": "training",
        "log_level": "info",
        "step": 1,
        "of": 40,
        "loss": 1.0,
        "tokens_per_second": None,
        "seconds_left": None,
    }


@pytest.mark.parametrize("terminal", [True, False])
def test_every_event_is_kept_and_the_curve_is_drawn(terminal: bool, tmp_path: Path) -> None:  # noqa: FBT001 - a parameter
    told(tmp_path, terminal=terminal)
    kept = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [event["type"] for event in kept] == ["loading", "step", "step", "checkpoint"]
    assert "step 4: 0.2500" in (tmp_path / "loss.svg").read_text()


def end(failure: Exception | None) -> None:
    if failure is not None:
        raise failure


@pytest.mark.parametrize(("failure", "told"), [(None, "No space left"), (OSError("no more memory"), "no more memory")])
def test_a_full_disk_gives_the_terminal_back_and_hides_no_failure(
    failure: Exception | None, told: str, tmp_path: Path
) -> None:
    (tmp_path / "loss.svg").symlink_to("/dev/full")
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=120, color_system=None)
    log = RunLog(tmp_path / "events.jsonl", tmp_path / "loss.svg", title="acme", console=console)
    with pytest.raises(OSError, match=told), log:
        end(failure)
    assert screen.getvalue().endswith("\x1b[?25h")
