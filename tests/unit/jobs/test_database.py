"""The database: migrations that agree with the tables, several processes, errors with a remedy."""

import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import func, select

from services.jobs.database import Database
from services.jobs.errors import DatabaseUnusable
from services.jobs.tables import deletions, events, jobs, metadata
from tests.conftest import REPOSITORY

SUBMIT = """
import sys
from pathlib import Path
from services.jobs.database import Database
from services.jobs.queue import Queue
from services.jobs.records import NewJob
queue = Queue(Database(Path(sys.argv[1])))
for number in range(20):
    queue.submit(NewJob(source="api", owner=sys.argv[2], model="m", adapter=f"a-{number}"))
    queue.submit(NewJob(source="api", owner="both", model="m", adapter=f"a-{number}"))
"""


def test_migrations_make_the_tables(database: Database) -> None:
    """What the migrations leave is what the code expects, to the last column and index."""
    with database.reading() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_processes_that_begin_together_share_one_database(tmp_path: Path) -> None:
    """Both migrate, both write at once; nothing is lost, and what both ask for is one job."""
    file = tmp_path / "jobs" / "jobs.sqlite"
    begun = [
        subprocess.Popen([sys.executable, "-c", SUBMIT, str(file), owner], cwd=REPOSITORY) for owner in ("one", "two")
    ]
    assert [process.wait(60) for process in begun] == [0, 0]
    database = Database(file)
    with database.reading() as connection:
        assert connection.execute(select(func.count()).select_from(jobs)).scalar() == 60
        assert connection.execute(select(func.count()).select_from(events)).scalar() == 60


def test_failed_transaction_leaves_nothing(database: Database) -> None:
    """An error in the middle undoes what came before it, and lets the next writer in."""

    def write_then_fail() -> None:
        with database.writing() as connection:
            connection.execute(deletions.insert().values(adapter="a", newest=1, owner="o", created_at=0))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_then_fail()
    with database.writing() as connection:
        assert connection.execute(select(func.count()).select_from(deletions)).scalar() == 0


def test_damaged_file_is_an_error_with_its_name(tmp_path: Path) -> None:
    """What is no database is not overwritten."""
    file = tmp_path / "jobs.sqlite"
    file.write_bytes(b"not a database at all" * 100)
    with pytest.raises(DatabaseUnusable, match=r"jobs\.sqlite: file is not a database; check the volume"):
        Database(file)
    assert file.read_bytes().startswith(b"not a database")


def test_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    """With the reason and what to look at."""
    (tmp_path / "jobs").write_text("in the way")
    with pytest.raises(DatabaseUnusable, match="check the volume, its owner"):
        Database(tmp_path / "jobs" / "jobs.sqlite")
