"""What the operator sees while a run goes on, and the same as JSON lines in the run's folder."""

import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import msgspec
import structlog
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from services.trainer.curve import loss_curve
from services.trainer.pace import Pace
from services.trainer.results import read_measured
from services.trainer.training.job import Checkpoint, Event, Loading, Step

_LOG_EVERY_SECONDS = 5.0


class RunLog:
    """Takes a run's events: appends them to ``events.jsonl``, draws the loss curve, moves the progress bar.

    On a terminal there is a bar with loss, tokens/s and time left; elsewhere a log line every few seconds.
    """

    def __init__(self, events: Path, curve: Path, *, title: str, console: Console) -> None:
        """Write to ``events`` and ``curve``; earlier events of a continued run stay."""
        self._stream = events.open("ab")
        self._curve = curve
        self._title = title
        self._points = {step.step: step.loss for step in read_measured(events).steps}
        self._log = structlog.get_logger()
        self._logged = 0.0
        self._pace = Pace()
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        if console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[numbers]}"),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=console,
            )
            self._task = self._bar.add_task("starting", total=None, numbers="")
            self._bar.start()

    def __call__(self, event: Event) -> None:
        """Take one event."""
        record = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), **msgspec.to_builtins(event)}
        self._stream.write(msgspec.json.encode(record) + b"\n")
        self._stream.flush()
        if isinstance(event, Step):
            self._step(event)
        elif isinstance(event, Loading):
            self._describe(event.what)
        elif isinstance(event, Checkpoint):
            self._draw()

    def __enter__(self) -> Self:
        """Nothing: it takes events from the beginning."""
        return self

    def __exit__(self, failed: type[BaseException] | None, *_: object) -> None:
        """Give the terminal back and draw the curve a last time; what a run failed of is worth more than its curve."""
        if self._bar is not None:
            self._bar.stop()  # first: where the disk is full the terminal is given back too
        with suppress(*[OSError] if failed else []), self._stream:
            self._draw()

    def _step(self, step: Step) -> None:
        self._points[step.step] = step.loss
        rate, left = self._pace.at(step)
        speed = f"{rate:,.0f} tokens/s" if rate is not None else ""
        numbers = f"loss {step.loss:.4f}  {speed}"
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, description="training", total=step.of, completed=step.step, numbers=numbers)
        elif time.monotonic() - self._logged >= _LOG_EVERY_SECONDS or step.step == step.of:
            self._logged = time.monotonic()
            self._log.info(
                "training",
                step=step.step,
                of=step.of,
                loss=round(step.loss, 4),
                tokens_per_second=round(rate) if rate is not None else None,
                seconds_left=round(left) if left is not None else None,
            )

    def _describe(self, what: str) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, description=f"loading: {what}")
        else:
            self._log.info("loading", what=what)

    def _draw(self) -> None:
        self._curve.write_text(loss_curve(sorted(self._points.items()), title=self._title), encoding="utf-8")
