"""Opening a database: SQLite in WAL mode, brought up to date by Alembic, shared by processes of several containers."""

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from services.common.killpoints import passing
from services.jobs.errors import DatabaseUnusable
from services.registry.errors import RegistryError
from services.registry.lock import exclusive

_QUEUES = Path(__file__).with_name("migrations")
_LOCK = ".migrating.lock"
_MIGRATING_SECONDS = 60.0
_BUSY_MILLISECONDS = 10_000


class Database:
    """A database, ready to use; safe to use from several threads, and with nothing to close.

    Args:
        file: the SQLite file; its folder is made where missing.
        migrations: Alembic's folder, which makes the tables; the job queue's where not given.

    Raises:
        DatabaseUnusable: it cannot be opened or brought up to date.
    """

    def __init__(self, file: Path, migrations: Path = _QUEUES) -> None:
        self.file = file
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._engine = _engine(file)
            with exclusive(file.parent / _LOCK, f"migrating {file.name}", wait_seconds=_MIGRATING_SECONDS):
                _migrate(self._engine, migrations)
        except (SQLAlchemyError, OSError, RegistryError, sqlite3.Error) as error:
            raise DatabaseUnusable(f"{file}: {_reason(error)}; check the volume, its owner and its space") from error

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection on a consistent view.

        Raises:
            DatabaseUnusable: the file cannot be read.
        """
        with self._translated(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that holds the write lock from its beginning, so that what it read stays true.

        Raises:
            DatabaseUnusable: the file cannot be written, or another writer held it too long.
        """
        with self._translated(), self._engine.connect() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.exec_driver_sql("ROLLBACK")
                raise
            passing("queue: before a commit")
            connection.exec_driver_sql("COMMIT")
            passing("queue: after a commit")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            raise DatabaseUnusable(f"{self.file}: {_reason(error)}; check the volume and its space") from error


def _engine(file: Path) -> Engine:
    # Transactions are begun by hand: sqlite3's own way would take the write lock only at the first write.
    # Connections are not kept: they are few and cheap, and a forked process must not share one.
    # An error's text may reach the log, and a statement's parameters may be a prompt.
    engine = create_engine(f"sqlite:///{file}", isolation_level="AUTOCOMMIT", poolclass=NullPool, hide_parameters=True)

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _: Any) -> None:
        connection.execute(f"PRAGMA busy_timeout={_BUSY_MILLISECONDS}")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA secure_delete=ON")  # what is deleted is not left on the disk

    return engine


def _migrate(engine: Engine, migrations: Path) -> None:
    logging.getLogger("alembic").setLevel(logging.WARNING)  # it would write three lines at every opening
    configuration = Config()
    configuration.set_main_option("script_location", str(migrations))
    with engine.connect() as connection:
        configuration.attributes["connection"] = connection
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        command.upgrade(configuration, "head")
        connection.exec_driver_sql("COMMIT")


def _reason(error: BaseException) -> str:
    original = getattr(error, "orig", None)
    return str(original or getattr(error, "strerror", None) or error)
