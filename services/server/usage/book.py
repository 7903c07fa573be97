"""The database of usage: sums by day, key and model, which are only ever added to."""

from collections.abc import Mapping
from pathlib import Path

import msgspec
from sqlalchemy import func, select
from sqlalchemy.dialects.sqlite import insert

from services.jobs.database import Database
from services.server.usage.tables import usage

_MIGRATIONS = Path(__file__).with_name("migrations")


class Entry(msgspec.Struct, frozen=True):
    """Whose usage: the day as ISO 8601 in UTC, the key's name, the model that answered."""

    day: str
    key: str
    model: str


class Used(msgspec.Struct):
    """How much; tokens are counted as answers tell them."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Book:
    """The database, open.

    Args:
        file: made where missing.

    Raises:
        DatabaseUnusable: it cannot be opened.
    """

    def __init__(self, file: Path) -> None:
        self._database = Database(file, _MIGRATIONS)

    def add(self, sums: Mapping[Entry, Used]) -> None:
        """Add to what is there, all of it or nothing.

        Raises:
            DatabaseUnusable: the volume cannot be written.
        """
        rows = [msgspec.structs.asdict(entry) | msgspec.structs.asdict(used) for entry, used in sums.items()]
        adding = insert(usage)
        amounts = Used.__struct_fields__
        adding = adding.on_conflict_do_update(
            index_elements=list(Entry.__struct_fields__),
            set_={name: usage.c[name] + adding.excluded[name] for name in amounts},
        )
        with self._database.writing() as connection:
            connection.execute(adding, rows)

    def tokens_on(self, day: str) -> dict[str, int]:
        """Tokens of prompts and answers of one day, by key.

        Raises:
            DatabaseUnusable: the database cannot be read.
        """
        tokens = func.sum(usage.c.prompt_tokens + usage.c.completion_tokens).label("tokens")
        with self._database.reading() as connection:
            rows = connection.execute(select(usage.c.key, tokens).where(usage.c.day == day).group_by(usage.c.key))
            return {row.key: row.tokens for row in rows}

    def read(self, first: str, last: str) -> list[tuple[Entry, Used]]:
        """All of these days, both included, in order of day, key and model.

        Raises:
            DatabaseUnusable: the database cannot be read.
        """
        query = select(usage).where(usage.c.day.between(first, last)).order_by(*usage.primary_key.columns)
        with self._database.reading() as connection:
            rows = connection.execute(query).mappings().all()
        return [
            (
                Entry(**{name: row[name] for name in Entry.__struct_fields__}),
                Used(**{name: row[name] for name in Used.__struct_fields__}),
            )
            for row in rows
        ]
