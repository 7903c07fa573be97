"""The disk below SQLite's files: what SQLite itself syncs is known, and anything since then may be gone after a power cut.

SQLite reaches files through its VFS; the one of this process is listened to in place, so that the code under test and its SQLite are
the real ones. Only syncs and deletions are heard. What a file holds and the last sync did not is unsynced: of each sector the old bytes
or the new may be there. A name is durable with the first sync of a log or journal, for which SQLite syncs the folder, too.
"""

import ctypes
import ctypes.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import msgspec

_SECTOR = 512
_LOG_OR_JOURNAL = 0x00080000 | 0x00000800  # SQLITE_OPEN_WAL, SQLITE_OPEN_MAIN_JOURNAL
_MEMORY = "-shm"  # no file but memory: made anew by whoever opens first

# Names go through as pointers: SQLite keeps them, and reads before and after them.
_OPEN = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
_DELETE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int)
_SYNC = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int)


class _Vfs(ctypes.Structure):
    _fields_ = (
        ("iVersion", ctypes.c_int),
        ("szOsFile", ctypes.c_int),
        ("mxPathname", ctypes.c_int),
        ("pNext", ctypes.c_void_p),
        ("zName", ctypes.c_char_p),
        ("pAppData", ctypes.c_void_p),
        ("xOpen", ctypes.c_void_p),
        ("xDelete", ctypes.c_void_p),
    )


class _Methods(ctypes.Structure):
    """``sqlite3_io_methods``, version 3: 18 functions, of which the fifth syncs."""

    _fields_ = (("iVersion", ctypes.c_int), ("functions", ctypes.c_void_p * 18))


_X_SYNC = 4


class Moment(msgspec.Struct, frozen=True):
    """What lay on the disk at one moment.

    Attributes:
        done: how many operations had been acknowledged.
        names: of the files that are there for sure; the others may be there or not.
        synced: each file's bytes as they were last synced; a file that was deleted since may be back with them.
        written: each file's bytes as a reader saw them.
    """

    done: int
    names: frozenset[str]
    synced: dict[str, bytes]
    written: dict[str, bytes]

    def after_cut(self, folder: Path, chance: Random) -> None:
        """Write into an empty folder what a power cut may leave of it."""
        for name in self.synced.keys() | self.written.keys():
            sure = name in self.names
            if name in self.written and (sure or chance.random() < 0.5):
                (folder / name).write_bytes(_torn(self.synced.get(name, b""), self.written[name], chance))
            elif sure or (name not in self.written and chance.random() < 0.5):
                (folder / name).write_bytes(self.synced[name])


def _torn(old: bytes, new: bytes, chance: Random) -> bytes:
    share = chance.choice((0.0, 0.5, 0.9, 1.0))  # of the sectors that arrived
    length = len(new) if chance.random() < share else max(len(old), chance.randint(0, len(new)))
    whole = bytearray(old[:length].ljust(length, b"\0"))
    for start in range(0, length, _SECTOR):
        if chance.random() < share:
            sector = new[start : min(start + _SECTOR, length)]
            whole[start : start + len(sector)] = sector
    return bytes(whole)


class SqliteDisk:
    """Listens to this process's SQLite, and keeps the moments in which the power may go.

    Args:
        folder: whose files count; everything in it is synced at first.

    Attributes:
        moments: before and after each sync and deletion, and after each operation that ``acknowledge`` was told of.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names = frozenset(self._there())
        self._synced = self._there()
        self._done = 0
        self.moments: list[Moment] = []

    def acknowledge(self) -> None:
        """One more operation has returned."""
        self._done += 1
        self._look()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """While SQLite works."""
        library = ctypes.CDLL(ctypes.util.find_library("sqlite3"))
        library.sqlite3_vfs_find.restype = ctypes.POINTER(_Vfs)
        vfs = library.sqlite3_vfs_find(None).contents
        real_open, real_delete = vfs.xOpen, vfs.xDelete
        kept: list[Any] = []  # what C may still call

        def on_open(of: int, name: int | None, file: int, flags: int, out: int) -> int:
            code: int = _OPEN(real_open)(of, name, file, flags, out)
            place = ctypes.cast(file, ctypes.POINTER(ctypes.POINTER(_Methods)))  # pMethods is a file's first field
            path = _path(name)
            if code == 0 and place.contents and path.parent == self._folder:
                methods = _Methods.from_buffer_copy(place.contents.contents)
                sync = self._heard(methods.functions[_X_SYNC], path.name, flags)
                methods.functions[_X_SYNC] = ctypes.cast(sync, ctypes.c_void_p).value
                kept.extend((methods, sync))
                place[0] = ctypes.pointer(methods)
            return code

        def on_delete(of: int, name: int, sync_folder: int) -> int:
            self._look()
            code: int = _DELETE(real_delete)(of, name, sync_folder)
            if _path(name).parent == self._folder:
                self._names -= {_path(name).name}
                if sync_folder:
                    self._sync_names()
            self._look()
            return code

        hooks = _OPEN(on_open), _DELETE(on_delete)
        vfs.xOpen, vfs.xDelete = (ctypes.cast(hook, ctypes.c_void_p).value for hook in hooks)
        try:
            yield
        finally:
            vfs.xOpen, vfs.xDelete = real_open, real_delete

    def _heard(self, real: int, name: str, flags: int) -> Any:
        def on_sync(file: int, how: int) -> int:
            self._look()
            code: int = _SYNC(real)(file, how)
            self._synced[name] = (self._folder / name).read_bytes()
            if flags & _LOG_OR_JOURNAL:
                self._sync_names()
            self._look()
            return code

        return _SYNC(on_sync)

    def _sync_names(self) -> None:
        there = self._there()
        self._names = frozenset(there)
        self._synced = {name: content for name, content in self._synced.items() if name in there}

    def _look(self) -> None:
        self.moments.append(Moment(self._done, self._names, dict(self._synced), self._there()))

    def _there(self) -> dict[str, bytes]:
        return {
            file.name: file.read_bytes()
            for file in self._folder.iterdir()
            if file.is_file() and not file.name.endswith(_MEMORY) and not file.name.startswith(".")
        }


def _path(name: int | None) -> Path:
    return Path(ctypes.string_at(name).decode()) if name else Path()
