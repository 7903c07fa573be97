"""The verbs of the queue: ``retrain``, ``work``, ``jobs``, ``cancel`` and ``delete``."""

import argparse
import signal
import sys
from collections.abc import Callable

import msgspec
from rich.console import Console

from services.base_model.identity import BaseSettings
from services.common.garbage import importing
from services.common.paths import DataPaths
from services.common.settings import load
from services.jobs.records import OPERATOR, Job, NewJob
from services.registry.layout import Registry, check_adapter_name
from services.trainer import exits
from services.trainer.outcome import Outcome
from services.trainer.say import say_outcome
from services.trainer.work.deletions import Deleter, give_up
from services.trainer.work.desk import Desk
from services.trainer.work.door import Door
from services.trainer.work.list import list_jobs, print_jobs
from services.trainer.work.loop import serve
from services.trainer.work.process import JobProcesses
from services.trainer.work.ready import Ready
from services.trainer.work.settings import gate_settings, training_settings
from services.trainer.work.surroundings import surroundings
from services.trainer.worker import Stop


def retrain(options: argparse.Namespace) -> int:
    """Have a job of the operator done, and say how it ended."""
    gate_settings(options.set)  # what is wrong with the settings is said before anything waits
    settings, base = training_settings(options.set), load("base", BaseSettings)
    wanted = NewJob(
        source="operator",
        owner=OPERATOR,
        model=base.base_model.name,
        adapter=check_adapter_name(settings.adapter.name),
        overrides=list(options.set),
    )
    paths, stop, console = DataPaths.from_environment(), stop_on_signals(), Console(stderr=True)
    desk, ready = Desk(paths), Ready.of(paths, stop)
    door = Door(desk, lambda: _real(desk, paths, ready, stop, console), stop, console)
    try:
        return _say_end(door(wanted), door, options, console)
    finally:
        ready.dismiss()


def work(options: argparse.Namespace) -> int:
    """Work on the queue until this process is asked to end."""
    del options
    paths, stop = DataPaths.from_environment(), stop_on_signals()
    desk = Desk(paths)
    tidy = Deleter(desk.deletions, Registry(paths.registry))
    processes = JobProcesses(
        desk, stop, warm=lambda: training_settings([]).worker.warm, surroundings=lambda: surroundings(paths)
    )

    def idle() -> None:
        tidy()
        processes.get_ready()

    try:
        serve(desk, processes.holding, stop, idle=idle)
    finally:
        processes.dismiss()
    return exits.DONE


def jobs(options: argparse.Namespace) -> int:
    """List the jobs that have not ended, and the last that have."""
    listed = list_jobs(Desk(DataPaths.from_environment()).queue)
    if options.json:
        print(msgspec.json.encode(listed).decode())  # noqa: T201 - a verb prints
    else:
        print_jobs(listed, Console())
    return exits.DONE


def cancel(options: argparse.Namespace) -> int:
    """End a job: at once where it waits, within seconds where it runs."""
    job = Desk(DataPaths.from_environment()).queue.cancel(options.job)
    state = "cancelled" if job.status == "cancelled" else "running, and is ended"
    Console(stderr=True).print(f"{job.id} is {state}")
    return exits.DONE


def delete(options: argparse.Namespace) -> int:
    """Give a version up, or an adapter: the server hides it, the trainer deletes its files."""
    paths = DataPaths.from_environment()
    adapter = options.adapter or training_settings([]).adapter.name
    name = give_up(Desk(paths).deletions, Registry(paths.registry), adapter, options.version)
    Console(stderr=True).print(
        f"{name} is gone for apps within seconds; the trainer deletes its files as soon as no job runs", highlight=False
    )
    return exits.DONE


def stop_on_signals() -> Stop:
    """What SIGTERM and Ctrl-C ask of this process."""
    stop = Stop()
    signal.signal(signal.SIGTERM, stop.handle)
    signal.signal(signal.SIGINT, stop.handle)
    return stop


def _real(desk: Desk, paths: DataPaths, ready: Ready, stop: Stop, console: Console) -> Callable[[Job], Outcome | None]:
    ready.worker.start()  # it imports while this process does
    with importing():
        from services.trainer.work.real import real_job_work  # noqa: PLC0415 - takes seconds to import; a follower needs none

    return real_job_work(desk, paths, ready, stop, console)


def _say_end(job: Job, door: Door, options: argparse.Namespace, console: Console) -> int:
    outcome = door.outcome or _outcome_of(job)
    if outcome is not None and job.status != "cancelled":
        if options.json:
            print(msgspec.json.encode(outcome).decode())  # noqa: T201 - as above
        else:
            say_outcome(outcome, console)
        return exits.exit_of(job)
    if door.left:
        message = f"{job.id} goes on without this process; `make jobs` shows it, `make cancel JOB={job.id}` ends it"
    elif job.failure is not None:
        message = job.failure.message
    else:
        message = f"{job.id} is {job.status}" + ("; the next retrain continues it" if job.status == "queued" else "")
    if options.json:
        print(msgspec.json.encode(job.outcome or {"error": message}).decode())  # noqa: T201 - as above
    print(f"trainer: {message}", file=sys.stderr)  # noqa: T201 - as above
    return exits.LEFT if door.left else exits.exit_of(job)


def _outcome_of(job: Job) -> Outcome | None:
    """The account of a retrain that came to its end; None for one that failed on the way."""
    return msgspec.convert(job.outcome, Outcome) if job.outcome is not None and "run" in job.outcome else None
