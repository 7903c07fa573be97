"""What the operator sees while a version is judged: a bar on a terminal, elsewhere a log line every few seconds."""

import time
from types import TracebackType
from typing import Self

import structlog
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

_LOG_EVERY_SECONDS = 5.0


class JudgingProgress:
    """Counts answered requests per model; a context manager."""

    def __init__(self, console: Console) -> None:
        """Show on ``console``."""
        self._logged = 0.0
        self._tasks: dict[str, TaskID] = {}
        self._bar: Progress | None = None
        if console.is_terminal:
            columns = (
                TextColumn("judging {task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
            )
            self._bar = Progress(*columns, console=console)

    def __enter__(self) -> Self:
        """Begin to show."""
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the terminal back."""
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, model: str, done: int, of: int) -> None:
        """Take one answered request."""
        if self._bar is not None:
            if model not in self._tasks:
                self._tasks[model] = self._bar.add_task(model, total=of)
            self._bar.update(self._tasks[model], completed=done)
        elif done == of or time.monotonic() - self._logged >= _LOG_EVERY_SECONDS:
            self._logged = time.monotonic()
            structlog.get_logger().info("judging", model=model, answered=done, of=of)
