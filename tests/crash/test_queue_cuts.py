"""The job queue through power cuts, on the real SQLite: what was acknowledged is there, and nothing is half there."""

import random
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import Engine, event

from services.jobs import database as databases
from services.jobs.database import Database
from services.jobs.errors import DatabaseUnusable
from services.jobs.queue import Queue
from services.jobs.records import Failure, NewJob
from services.jobs.work import Work
from tests.support.sqlite_disk import Moment, SqliteDisk

FILE = "jobs.sqlite"
CUTS = 3  # of each moment
OPERATIONS = 9  # the first opens the database
TABLES = ("jobs", "events", "checkpoints", "files")

Dump = list[list[tuple[Any, ...]]]


def _lived(folder: Path, *, beside: bool) -> tuple[list[Moment], list[Dump]]:
    """The moments of a queue's life, and what it held after each operation; ``beside`` another that has it open all the while."""
    disk = SqliteDisk(folder)
    dumps: list[Dump] = [[[] for _ in TABLES]]
    with disk.listening():
        database = Database(folder / FILE)
        disk.acknowledge()
        dumps.append(_dump(folder))
        other = sqlite3.connect(folder / FILE)
        if beside:
            other.execute("SELECT * FROM jobs").fetchall()
        for operation in _operations(Queue(database), Work(database)):
            operation()
            disk.acknowledge()
            dumps.append(_dump(folder))
        other.close()
    return disk.moments, dumps


def _operations(queue: Queue, work: Work) -> list[Callable[[], object]]:
    asked = NewJob(source="api", owner="app", model="tiny", adapter="acme", metadata={"note": "x" * 9000})
    jobs: list[str] = []

    def submit(key: str) -> None:
        job, _ = queue.submit(msgspec.structs.replace(asked, idempotency_key=key))
        jobs.append(job.id)

    return [
        lambda: submit("a"),
        lambda: submit("b"),
        work.next,
        lambda: work.tell(jobs[0], "Step 1/4", metrics=True),
        lambda: work.published(jobs[0], "acme@1"),
        lambda: work.fail(jobs[0], Failure(code="gate_refused", message="x")),
        lambda: queue.cancel(jobs[1]),
        lambda: submit("c"),
    ]


def _dump(folder: Path) -> Dump:
    """Every row, read as a process does that comes after a restart."""
    connection = sqlite3.connect(folder / FILE)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return [connection.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall() for table in TABLES]  # noqa: S608
    finally:
        connection.close()


def _cut_everywhere(root: Path, *, beside: bool) -> list[Moment]:
    home = root / "lived"
    home.mkdir()
    moments, dumps = _lived(home, beside=beside)
    for number, moment in enumerate(moments):
        for seed in range(CUTS):
            folder = root / f"{number}-{seed}"
            folder.mkdir()
            moment.after_cut(folder, random.Random(seed))  # noqa: S311 - repeatable
            Database(folder / FILE)  # opens, whatever is left
            assert _dump(folder) in dumps[moment.done : moment.done + 2]
    return moments


@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside another"])
def test_the_queue_survives_power_cuts(
    tmp_path: Path, record_property: Callable[[str, object], None], *, beside: bool
) -> None:
    """Wherever the power goes, and whatever part of the unsynced goes with it: the acknowledged, and the one in flight whole or not at all."""
    moments = _cut_everywhere(tmp_path, beside=beside)
    record_property("power cuts", CUTS * len(moments))
    assert {moment.done for moment in moments} == set(range(OPERATIONS + 1))
    assert len(moments) > 4 * OPERATIONS, "a commit is a log's sync, before and after"


@pytest.mark.parametrize("how", ["NORMAL", "OFF"])
def test_a_sync_left_out_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """With less than ``synchronous=FULL`` something acknowledged is lost."""
    real = databases._engine  # noqa: SLF001 - where the setting is

    def lax(file: Path) -> Engine:
        engine = real(file)
        event.listen(engine, "connect", lambda connection, _: connection.execute(f"PRAGMA synchronous={how}"))
        return engine

    monkeypatch.setattr(databases, "_engine", lax)
    with pytest.raises((AssertionError, sqlite3.DatabaseError, DatabaseUnusable)):
        _cut_everywhere(tmp_path, beside=True)
