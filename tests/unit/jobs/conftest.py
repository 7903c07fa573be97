"""Fixtures of the job queue's tests."""

from pathlib import Path

import pytest

from services.jobs.database import Database
from services.jobs.queue import Queue
from services.jobs.work import Work


@pytest.fixture
def database(tmp_path: Path) -> Database:
    """An empty database on a real file."""
    return Database(tmp_path / "jobs" / "jobs.sqlite")


@pytest.fixture
def queue(database: Database) -> Queue:
    """The doors' side."""
    return Queue(database)


@pytest.fixture
def work(database: Database) -> Work:
    """The worker's side."""
    return Work(database)
