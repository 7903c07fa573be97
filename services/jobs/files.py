"""Uploaded rows and results: a row of the database for each, its content in a file of its own beside it."""

import contextlib
import hashlib
import os
import secrets
import shutil
import time
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import delete, insert, or_, select, update

from services.common.durable import sync_folder
from services.common.killpoints import passing
from services.jobs.database import Database
from services.jobs.errors import DatabaseUnusable, FileUnknown
from services.jobs.pages import page_of
from services.jobs.records import Page, Purpose, StoredFile
from services.jobs.tables import files

_CHUNK = 1 << 20
_PARTIAL = ".part"


class FileStore:
    """The files of one database.

    Args:
        database: open.
        folder: where contents lie; it is made where missing.

    Raises:
        DatabaseUnusable: the folder cannot be made.
    """

    def __init__(self, database: Database, folder: Path) -> None:
        self._database = database
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DatabaseUnusable(f"{folder}: {error.strerror}; check the volume and its owner") from error

    def scratch(self) -> Path:
        """A new name in the store's folder, for a content that is about to be added, or a folder to put it together in."""
        return self._folder / f"{secrets.token_hex(12)}{_PARTIAL}"

    def add(
        self, content: Path, *, filename: str, purpose: Purpose, owner: str, expires_after: int | None = None
    ) -> StoredFile:
        """Take a content in: it is moved from ``content``, which lies at or below a path that ``scratch`` gave.

        Args:
            content: complete; it is made durable here.
            filename: what its owner calls it.
            purpose: what it is for.
            owner: a key's name.
            expires_after: seconds; None for never.

        Raises:
            DatabaseUnusable: the volume cannot be written.
        """
        now = int(time.time())
        identity = f"file-{secrets.token_hex(12)}"
        try:
            digest, size = _seal(content)
            stored = StoredFile(
                id=identity,
                owner=owner,
                filename=filename,
                purpose=purpose,
                bytes=size,
                sha256=digest,
                created_at=now,
                expires_at=None if expires_after is None else now + expires_after,
            )
            passing("file: sealed")
            content.rename(self._folder / identity)
            sync_folder(self._folder)
            passing("file: in place")
        except OSError as error:
            raise DatabaseUnusable(f"{content.name}: {error.strerror}; check the volume and its space") from error
        with self._database.writing() as connection:
            connection.execute(insert(files).values(**_columns(stored)))
        return stored

    def get(self, identity: str) -> StoredFile:
        """One file's record.

        Raises:
            FileUnknown: there is none, or it has expired.
        """
        with self._database.reading() as connection:
            query = select(files).where(files.c.id == identity, _alive())
            row = connection.execute(query).mappings().first()
        if row is None:
            raise FileUnknown(f"No such File object: {identity[:80]}")
        return _stored(row)

    def list(
        self,
        *,
        owner: str | None = None,
        purpose: str | None = None,
        after: str | None = None,
        limit: int = 10_000,
        order: Literal["asc", "desc"] = "desc",
    ) -> Page:
        """Files, newest first where not said otherwise.

        Args:
            owner: whose; None for everyone's.
            purpose: None for all.
            after: the id of the last file of the page before.
            limit: at most so many.
            order: of creation.

        Raises:
            FileUnknown: ``after`` is no file.
        """
        query = select(files).where(_alive())
        if owner is not None:
            query = query.where(files.c.owner == owner)
        if purpose is not None:
            query = query.where(files.c.purpose == purpose)
        with self._database.reading() as connection:
            found = page_of(connection, query, files, after=after, limit=limit, ascending=order == "asc")
        if found is None:
            raise FileUnknown(f"No such File object: {(after or '')[:80]}")
        rows, more = found
        return Page([_stored(row) for row in rows], more)

    def content(self, identity: str) -> Path:
        """Where a file's content lies.

        Raises:
            FileUnknown: there is none.
        """
        return self.path_of(self.get(identity))

    def path_of(self, stored: StoredFile) -> Path:
        """Where the content of a file lies whose record is at hand."""
        return self._folder / stored.id

    def delete(self, identity: str) -> None:
        """Forget a file and remove its content. A job under way has its own copy; one that waits fails when its turn comes.

        Raises:
            FileUnknown: there is none.
        """
        with self._database.writing() as connection:
            if not connection.execute(delete(files).where(files.c.id == identity)).rowcount:
                raise FileUnknown(f"No such File object: {identity[:80]}")
        passing("file: forgotten")
        (self._folder / identity).unlink(missing_ok=True)

    def replace(self, identity: str, content: Path) -> None:
        """Put another content in a file's place: it is moved from ``content``, as ``add`` does.

        Args:
            identity: the file's id.
            content: complete; it is made durable here.

        Raises:
            FileUnknown: there is none.
            DatabaseUnusable: the volume cannot be written.
        """
        try:
            digest, size = _seal(content)
            with self._database.writing() as connection:
                changed = update(files).where(files.c.id == identity).values(sha256=digest, bytes=size)
                if not connection.execute(changed).rowcount:
                    raise FileUnknown(f"No such File object: {identity[:80]}")
                content.rename(self._folder / identity)
                sync_folder(self._folder)
        except OSError as error:
            raise DatabaseUnusable(f"{identity}: {error.strerror}; check the volume and its space") from error

    def sweep(self, older_than: float) -> None:
        """Remove expired files, and contents that no record names: of uploads that were cut off, or of killed processes.

        Args:
            older_than: seconds that an unnamed content must have lain untouched, so that one under way is left alone.
        """
        with self._database.writing() as connection:
            connection.execute(delete(files).where(~_alive()))
            named = set(connection.execute(select(files.c.id)).scalars())
        for path in self._folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if path.name in named or time.time() - path.stat().st_mtime <= older_than:
                    continue
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink()


def _alive() -> Any:
    return or_(files.c.expires_at.is_(None), files.c.expires_at > int(time.time()))


def _seal(content: Path) -> tuple[str, int]:
    """Make a content durable; its SHA-256 and its size."""
    digest, size = hashlib.sha256(), 0
    with content.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
        os.fsync(stream.fileno())
    return digest.hexdigest(), size


def _columns(stored: StoredFile) -> dict[str, Any]:
    return {name: getattr(stored, name) for name in StoredFile.__struct_fields__}


def _stored(row: Any) -> StoredFile:
    return StoredFile(**{name: row[name] for name in StoredFile.__struct_fields__})
