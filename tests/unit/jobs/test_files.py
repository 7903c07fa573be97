"""The file store: contents that are whole, lists with cursors, nothing left behind."""

import hashlib
import os
from pathlib import Path

import pytest

from services.jobs.database import Database
from services.jobs.deletions import Deletions
from services.jobs.errors import FileUnknown
from services.jobs.files import FileStore
from services.jobs.records import StoredFile


@pytest.fixture
def store(database: Database, tmp_path: Path) -> FileStore:
    """An empty store."""
    return FileStore(database, tmp_path / "jobs" / "files")


def _add(
    store: FileStore, content: bytes = b"{}\n", *, owner: str = "app", expires_after: int | None = None
) -> StoredFile:
    scratch = store.scratch()
    scratch.write_bytes(content)
    return store.add(scratch, filename="rows.jsonl", purpose="fine-tune", owner=owner, expires_after=expires_after)


def test_file_is_kept_as_it_came(store: FileStore) -> None:
    """Its bytes, their number and their hash; the scratch name is gone."""
    stored = _add(store, b"abc")
    assert store.get(stored.id) == stored
    assert (stored.bytes, stored.sha256) == (3, hashlib.sha256(b"abc").hexdigest())
    assert store.content(stored.id).read_bytes() == b"abc"
    assert [path.name for path in store.content(stored.id).parent.iterdir()] == [stored.id]


def test_another_content_takes_a_files_place(store: FileStore) -> None:
    """Under the same id, with its own size and hash; of a file that is gone nothing is made."""
    stored, scratch = _add(store, b"abc"), store.scratch()
    scratch.write_bytes(b"a")
    store.replace(stored.id, scratch)
    replaced = store.get(stored.id)
    assert (replaced.bytes, replaced.sha256) == (1, hashlib.sha256(b"a").hexdigest())
    assert store.content(stored.id).read_bytes() == b"a"
    store.delete(stored.id)
    scratch.write_bytes(b"a")
    with pytest.raises(FileUnknown):
        store.replace(stored.id, scratch)
    assert not (scratch.parent / stored.id).exists()


def test_deleted_file_is_gone(store: FileStore) -> None:
    """Record and content; a second time it is unknown."""
    stored = _add(store)
    content = store.content(stored.id)
    store.delete(stored.id)
    assert not content.exists()
    for look in (store.get, store.content, store.delete):
        with pytest.raises(FileUnknown, match="No such File object: file-"):
            look(stored.id)


def test_lists_go_on_where_they_ended_in_both_orders(store: FileStore) -> None:
    """Newest first or oldest first, of one owner or of all."""
    ids = [_add(store, owner="ab"[number % 2]).id for number in range(4)]
    first = store.list(limit=3)
    assert ([file.id for file in first.data], first.has_more) == (ids[:0:-1], True)
    rest = store.list(limit=3, after=ids[1])
    assert ([file.id for file in rest.data], rest.has_more) == ([ids[0]], False)
    assert [file.id for file in store.list(order="asc", after=ids[0]).data] == ids[1:]
    assert [file.id for file in store.list(owner="b").data] == [ids[3], ids[1]]
    assert store.list(purpose="fine-tune-results").data == []
    with pytest.raises(FileUnknown):
        store.list(after="file-none")


def test_expired_file_is_unknown_and_swept(store: FileStore) -> None:
    """Nobody gets it any more, and its content does not stay."""
    stored = _add(store, expires_after=-1)
    with pytest.raises(FileUnknown):
        store.get(stored.id)
    assert store.list().data == []
    store.sweep(older_than=-1)
    assert not any(path.name == stored.id for path in store.scratch().parent.iterdir())


def test_sweep_removes_what_no_record_names_but_not_what_is_under_way(store: FileStore) -> None:
    """Leftovers of killed uploads go once they are old; a file that is being written stays, and so do named ones."""
    kept, leftover, writing = _add(store), store.scratch(), store.scratch()
    leftover.write_bytes(b"x")
    os.utime(leftover, (0, 0))
    writing.write_bytes(b"x")
    store.sweep(older_than=3600)
    assert (store.content(kept.id).exists(), leftover.exists(), writing.exists()) == (True, False, True)


def test_deletion_covers_what_there_was_when_it_was_asked_for(database: Database) -> None:
    """A version that is trained after its adapter was deleted is not meant; a carried out deletion is not pending."""
    deletions = Deletions(database)
    deletions.add("acme", None, newest=3, owner="app")
    deletions.add("acme", 5, newest=5, owner="app")
    whole, one = deletions.all(pending=True)
    assert [whole.covers(number) for number in (1, 3, 4)] == [True, True, False]
    assert [one.covers(number) for number in (4, 5, 6)] == [False, True, False]
    deletions.done(whole.number)
    assert [deletion.number for deletion in deletions.all(pending=True)] == [one.number]
    assert len(deletions.all()) == 2
