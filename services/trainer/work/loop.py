"""The worker's day: take a job, have it done, take the next; while there is none, tidy up and wait."""

import time
from collections.abc import Callable
from typing import Protocol

import structlog

from services.jobs.records import Job
from services.registry.errors import RegistryBusy
from services.trainer.work.desk import Desk
from services.trainer.worker import Stop

POLL_SECONDS = 1.0


class Doing(Protocol):
    """Works on a claimed job; when it returns, the queue says how it ended, or that it waits again."""

    def __call__(self, job: Job, /) -> object:
        """Work on ``job``."""


def work(
    desk: Desk, do: Doing, stop: Stop, *, idle: Callable[[], None], over: Callable[[], bool] = lambda: False
) -> None:
    """Take jobs one at a time until ``stop`` is signalled or ``over`` says so. The caller holds the queue.

    Args:
        desk: the queue.
        do: one job.
        stop: asked between jobs, too.
        idle: called every second while no job waits.
        over: asked before each job.
    """
    while not stop.signalled and not over():
        job = desk.work.next()
        if job is None:
            idle()
            time.sleep(POLL_SECONDS)
        else:
            do(job)


def serve(desk: Desk, do: "Callable[[int], Doing]", stop: Stop, *, idle: Callable[[], None]) -> None:
    """Be the worker until ``stop`` is signalled; while another process is, wait for its end.

    Args:
        desk: the queue.
        do: makes what does one job of the descriptor that holds the queue.
        stop: ends it.
        idle: called every second while no job waits.
    """
    said = ""
    while not stop.signalled:
        try:
            with desk.work.holding() as descriptor:
                structlog.get_logger().info("waiting for jobs")
                work(desk, do(descriptor), stop, idle=idle)
        except RegistryBusy as busy:
            if str(busy) != said:
                said = str(busy)
                structlog.get_logger().info("another process works on the queue", holder=said)
            time.sleep(POLL_SECONDS)
