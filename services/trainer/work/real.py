"""A job's work with the real probe and the real judge; heavy to import, so only who works on jobs does."""

import logging

from rich.console import Console

from services.base_model.identity import BaseSettings
from services.common.paths import DataPaths
from services.common.settings import load
from services.trainer.gate.judge import ServerJudge
from services.trainer.gate.settings import GateSettings
from services.trainer.work.desk import Desk
from services.trainer.work.one import Helpers, JobWork
from services.trainer.work.ready import Ready
from services.trainer.worker import Stop


def real_job_work(desk: Desk, paths: DataPaths, ready: Ready, stop: Stop, console: Console) -> JobWork:
    """Work on jobs of ``desk`` below ``paths`` with what is ``ready``, until ``stop``, with progress on ``console``."""
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it would write a line for every question of the gate

    def judge(settings: GateSettings) -> ServerJudge:
        return ServerJudge(settings, paths.server_socket, console, lambda: stop.requested)

    return JobWork(
        desk,
        paths,
        base=lambda: load("base", BaseSettings),
        helpers=Helpers(*ready),
        judge=judge,
        stop=stop,
        console=console,
    )
