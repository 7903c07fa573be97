"""The database of stored responses: found by their owner alone, gone at their age, the oldest first where there is no room."""

import os
import time
from itertools import accumulate
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Connection, delete, func, insert, select

from services.jobs.database import Database
from services.jobs.errors import DatabaseUnusable
from services.server.stored.tables import responses

_MIGRATIONS = Path(__file__).with_name("migrations")
_DAY_SECONDS = 86_400
_BATCH = 1000
_PRIVATE_FOLDER = 0o700
_PRIVATE_FILE = 0o600
_decode_items = msgspec.json.Decoder(list[dict[str, Any]]).decode


class StoredResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A response as it is stored.

    Attributes:
        owner: the name of the key that asked.
        previous_id: of the response that it goes on from.
        created_at: seconds since 1970.
        input: JSON, the items of this request alone.
        answer: JSON, the response object.
    """

    id: str
    owner: str
    previous_id: str | None
    created_at: int
    input: bytes
    answer: bytes


class ResponseUnknown(Exception):
    """No such response, or not this caller's.

    Attributes:
        response_id: the one that is not there: an earlier one, where a conversation lacks its beginning.
    """

    def __init__(self, response_id: str) -> None:
        super().__init__("no such response")
        self.response_id = response_id


class ConversationTooLong(Exception):
    """A conversation holds more than one request may."""


class StoreFull(Exception):
    """A response alone is larger than all that may be stored."""


class ResponseStore:
    """Responses and what they answered.

    Args:
        file: the SQLite file; its folder is made where missing, and both are for this user alone.
        keep_days: what is older is gone.
        max_bytes: of the database; beyond it the oldest are gone.

    Raises:
        DatabaseUnusable: the database cannot be opened or brought up to date.
    """

    def __init__(self, file: Path, *, keep_days: int, max_bytes: int) -> None:
        _make_private(file)
        self._database = Database(file, _MIGRATIONS)
        self._keep_seconds = keep_days * _DAY_SECONDS
        self._max_bytes = max_bytes

    def add(self, response: StoredResponse) -> None:
        """Store a response, in the place of the oldest where there is no room.

        Raises:
            StoreFull: it is too large; nothing else is gone for it.
            DatabaseUnusable: the volume cannot be written.
        """
        size = len(response.input) + len(response.answer)
        columns = {name: getattr(response, name) for name in response.__struct_fields__}
        columns |= {"input": response.input.decode(), "answer": response.answer.decode(), "bytes": size}
        with self._database.writing() as connection:
            number = connection.execute(insert(responses).values(**columns)).inserted_primary_key
            assert number is not None  # noqa: S101 - SQLite tells it after every insert
            if not self._make_room(connection, before=number[0]):
                raise StoreFull("the answer is larger than responses.max_bytes")

    def answer(self, owner: str, response_id: str) -> bytes:
        """The response object.

        Raises:
            ResponseUnknown: there is none.
            DatabaseUnusable: the database cannot be read.
        """
        with self._database.reading() as connection:
            return str(self._one(connection, owner, response_id, responses.c.answer)[0]).encode()

    def conversation(self, owner: str, response_id: str, *, max_bytes: int, answered: bool) -> list[dict[str, Any]]:
        """The items of a response and of all that it goes on from, in their order.

        Args:
            owner: whose.
            response_id: the last response.
            max_bytes: of all items.
            answered: whether what the last response answered is among them.

        Raises:
            ResponseUnknown: it, or an earlier one, is not there.
            ConversationTooLong: it is over its limit.
            DatabaseUnusable: the database cannot be read.
        """
        columns = (responses.c.previous_id, responses.c.input, func.json_extract(responses.c.answer, "$.output"))
        turns: list[bytes] = []
        last: str | None = response_id
        with self._database.reading() as connection:
            while last is not None:
                row = self._one(connection, owner, last, *columns)
                last, given, output = row[0], row[1].encode(), row[2].encode() if turns or answered else b"[]"
                turns += [output, given]
                max_bytes -= len(output) + len(given)
                if max_bytes < 0:
                    raise ConversationTooLong
        return [item for turn in reversed(turns) for item in _decode_items(turn)]

    def delete(self, owner: str, response_id: str) -> None:
        """Forget a response; one that goes on from it cannot be gone on from any more.

        Raises:
            ResponseUnknown: there is none.
            DatabaseUnusable: the volume cannot be written.
        """
        with self._database.writing() as connection:
            (number,) = self._one(connection, owner, response_id, responses.c.number)
            connection.execute(delete(responses).where(responses.c.number == number))

    def sweep(self) -> None:
        """Forget what is too old, and the oldest of what is too much.

        Raises:
            DatabaseUnusable: the volume cannot be written.
        """
        with self._database.writing() as connection:
            connection.execute(delete(responses).where(responses.c.created_at <= self._too_old()))
            self._make_room(connection)

    def _one(self, connection: Connection, owner: str, response_id: str, *columns: Any) -> Any:
        alive = responses.c.created_at > self._too_old()
        query = select(*columns).where(responses.c.id == response_id, responses.c.owner == owner, alive)
        row = connection.execute(query).first()
        if row is None:
            raise ResponseUnknown(response_id)
        return row

    def _too_old(self) -> int:
        return int(time.time()) - self._keep_seconds

    def _make_room(self, connection: Connection, before: int | None = None) -> bool:
        """Forget the oldest, only those before a number where one is given, until all fits; whether it does."""
        oldest = select(responses.c.number, responses.c.bytes).order_by(responses.c.number).limit(_BATCH)
        if before is not None:
            oldest = oldest.where(responses.c.number < before)
        while (excess := _bytes_used(connection) - self._max_bytes) > 0:
            rows = connection.execute(oldest).all()
            if not rows:
                return False
            gone = accumulate(row.bytes for row in rows)
            last = next((row for row, total in zip(rows, gone, strict=True) if total >= excess), rows[-1])
            connection.execute(delete(responses).where(responses.c.number <= last.number))
        return True


def forget_all(file: Path) -> None:
    """Remove a database of responses, where there is one.

    Raises:
        DatabaseUnusable: it cannot be removed.
    """
    try:
        for part in file.parent.glob(f"{file.name}*"):  # SQLite's own files beside it, too
            part.unlink()
    except OSError as error:
        raise DatabaseUnusable(f"{file}: {error.strerror}; remove it, as responses.keep_days is 0") from error


def _make_private(file: Path) -> None:
    """Make folder and file, for this user alone; SQLite gives its other files the mode of this one."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.parent.chmod(_PRIVATE_FOLDER)
        os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, _PRIVATE_FILE))
        file.chmod(_PRIVATE_FILE)
    except OSError as error:
        raise DatabaseUnusable(f"{file}: {error.strerror}; its folder must belong to the server's user") from error


def _bytes_used(connection: Connection) -> int:
    """What the database needs on the disk, free pages apart; in no time, however many responses there are."""
    pages, free, size = (
        int(connection.exec_driver_sql(f"PRAGMA {name}").scalar_one())
        for name in ("page_count", "freelist_count", "page_size")
    )
    return (pages - free) * size
