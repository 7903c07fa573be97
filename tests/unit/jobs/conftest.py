"""Fixtures of the job queue's tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.jobs.database import Database
from services.jobs.queue import Queue
from services.jobs.work import Work


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """An empty database on a real file."""
    database = Database(tmp_path / "jobs" / "jobs.sqlite")
    yield database
    database.close()


@pytest.fixture
def queue(database: Database) -> Queue:
    """The doors' side."""
    return Queue(database)


@pytest.fixture
def work(database: Database) -> Work:
    """The worker's side."""
    return Work(database)
