"""Models that are to go: written down by the server, which hides them at once; carried out by the worker."""

import time
from collections.abc import Iterable

import msgspec
from sqlalchemy import insert, select, update

from services.jobs.database import Database
from services.jobs.tables import deletions, jobs


class Deletion(msgspec.Struct, frozen=True, kw_only=True):
    """One model that is to go.

    Attributes:
        version: its number; None for the whole adapter, up to ``newest``.
        newest: the adapter's newest version when it was asked for.
    """

    number: int
    adapter: str
    version: int | None
    newest: int

    def covers(self, version: int) -> bool:
        """Whether this version of the adapter is meant."""
        return version <= self.newest if self.version is None else version == self.version


def is_deleted(every: Iterable[Deletion], adapter: str, version: int) -> bool:
    """Whether a version is gone by one of these deletions."""
    return any(deletion.adapter == adapter and deletion.covers(version) for deletion in every)


class Deletions:
    """The deletions of one database.

    Args:
        database: open.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, adapter: str, version: int | None, *, newest: int, owner: str) -> Deletion:
        """Ask for a model to go."""
        what = {"adapter": adapter, "version": version, "newest": newest}
        with self._database.writing() as connection:
            adding = insert(deletions).values(**what, owner=owner, created_at=int(time.time()))
            number = connection.execute(adding.returning(deletions.c.number)).scalar_one()
        return Deletion(number=number, adapter=adapter, version=version, newest=newest)

    def all(self, *, pending: bool = False) -> list[Deletion]:
        """Every deletion, or those that are not carried out yet."""
        query = select(deletions).order_by(deletions.c.number)
        if pending:
            query = query.where(deletions.c.done_at.is_(None))
        with self._database.reading() as connection:
            rows = connection.execute(query).mappings().all()
        return [Deletion(**{name: row[name] for name in Deletion.__struct_fields__}) for row in rows]

    def done(self, number: int) -> None:
        """The model's folder is gone."""
        with self._database.writing() as connection:
            connection.execute(
                update(deletions)
                .where(deletions.c.number == number, deletions.c.done_at.is_(None))
                .values(done_at=int(time.time()))
            )

    def makers(self, adapter: str) -> dict[str, str]:
        """Who had each version of an adapter made, by the version's name; versions that no job made are not in it."""
        query = select(jobs.c.version, jobs.c.owner).where(jobs.c.adapter == adapter, jobs.c.version.is_not(None))
        with self._database.reading() as connection:
            return {row.version: row.owner for row in connection.execute(query)}
