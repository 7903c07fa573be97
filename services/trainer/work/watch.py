"""Sees what a job's owner wishes while it is under way, and has it stopped."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread

import structlog

from services.jobs.errors import JobsError
from services.jobs.records import Wish
from services.trainer.worker import Stop

POLL_SECONDS = 1.0


@contextmanager
def watching(wish: Callable[[], Wish | None], stop: Stop, poll_seconds: float = POLL_SECONDS) -> Iterator[None]:
    """Pass a wish on to ``stop`` within ``poll_seconds`` while the block runs."""
    over = Event()

    def watch() -> None:
        while not over.wait(poll_seconds):
            try:
                wished = wish()
            except JobsError as error:
                structlog.get_logger().warning("the queue cannot be read", reason=str(error))
                continue
            if wished is not None:
                stop.ask()
                return

    thread = Thread(target=watch, name="wishes", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
