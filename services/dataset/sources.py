"""The operator's files: found, refused where they are not plain files of the mount, and copied before anything reads them.

Everything after works on the copy, so that files which change during a run change nothing in it.
"""

import errno
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from services.dataset.faults import DataRefused, Fault
from services.registry.files import open_regular

_CHUNK = 1024 * 1024


class SourceFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file of the snapshot; ``name`` is relative to the datasets folder, ``size`` in bytes."""

    name: str
    size: int
    sha256: str


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """What was copied, in order of name.

    Attributes:
        faults: of the entries that were not: links, pipes, devices, what cannot be read. Rows are missing, so ``prepare``
            refuses all of them, after it has looked for the faults of the others.
    """

    files: tuple[SourceFile, ...]
    faults: tuple[Fault, ...]


def take_snapshot(datasets: Path, snapshot: Path) -> Snapshot:
    """Copy every ``*.jsonl`` file below ``datasets`` into ``snapshot``, hashing what is copied.

    Raises:
        DataRefused: there is none, or the disk is full.
    """
    if not datasets.is_dir():
        raise DataRefused([Fault(file=str(datasets), reason="no such folder", remedy="Put your .jsonl files there")])
    faults: list[Fault] = []
    found = [(path.relative_to(datasets).as_posix(), path) for path in _find(datasets, faults)]
    if not found and not faults:
        reason = "holds no .jsonl file"
        raise DataRefused([Fault(file=str(datasets), reason=reason, remedy="Put at least one there")])
    copied = copy_files(found, snapshot)
    return Snapshot(files=copied.files, faults=(*faults, *copied.faults))


def copy_files(files: Iterable[tuple[str, Path]], snapshot: Path) -> Snapshot:
    """Copy files into ``snapshot``, each under the name beside it, hashing what is copied.

    Raises:
        DataRefused: the disk is full.
    """
    snapshot.mkdir(parents=True)
    copied: list[SourceFile] = []
    faults: list[Fault] = []
    for name, path in files:
        try:
            copied.append(_copy(path, name, snapshot / name))
        except _Unusable as error:
            faults.append(Fault(file=printable(name), reason=error.reason, remedy=error.remedy))
        except OSError as error:
            faults.append(_unreadable(name, error))
    return Snapshot(files=tuple(copied), faults=tuple(faults))


def snapshot_hash(snapshot: Snapshot) -> str:
    """One hash over the names and contents of all files."""
    return hashlib.sha256(msgspec.json.encode([(file.name, file.sha256) for file in snapshot.files])).hexdigest()


def printable(name: str) -> str:
    """A file's name as it can be shown: what is not UTF-8 or would steer a terminal is written as an escape."""
    escaped = name.encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in escaped)


class _Unusable(Exception):
    """An entry that cannot be copied: the reason, the remedy."""

    def __init__(self, reason: str, remedy: str = "Put a regular file in its place") -> None:
        super().__init__(reason)
        self.reason, self.remedy = reason, remedy


def _unreadable(name: str, error: OSError) -> Fault:
    reason = error.strerror or "cannot be read"
    return Fault(file=printable(name), reason=reason, remedy="Make it readable for the trainer (chmod -R a+rX)")


def _find(datasets: Path, faults: list[Fault]) -> Iterator[Path]:
    """Every entry named ``*.jsonl``, whatever it is, and every linked folder, in order of name; none of those is entered.

    Folders that cannot be listed become ``faults``: their rows must not be missing without a word.
    """

    def fail(error: OSError) -> None:
        faults.append(_unreadable(os.path.relpath(error.filename, datasets), error))

    for parent, folders, names in os.walk(datasets, onerror=fail):
        folders.sort()
        odd = [name for name in folders if name.endswith(".jsonl") or Path(parent, name).is_symlink()]
        yield from (Path(parent, name) for name in sorted([*(name for name in names if name.endswith(".jsonl")), *odd]))
        folders[:] = [name for name in folders if name not in odd]


def _copy(source: Path, name: str, target: Path) -> SourceFile:
    kind = source.lstat().st_mode
    if stat.S_ISLNK(kind):
        raise _Unusable("is a symbolic link, which could lead out of the mount")
    if not stat.S_ISREG(kind):
        raise _Unusable("is not a regular file")
    if printable(name) != name:
        raise _Unusable("has a name that cannot be printed", "Rename it: UTF-8, without control characters")
    with _opened(source) as stream:
        digest = hashlib.sha256()
        size = 0
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as copy:
                for piece in _pieces(stream):
                    digest.update(piece)
                    size += len(piece)
                    copy.write(piece)
        except OSError as error:  # of writing only: the row's file is not to blame, and the next one would fail alike
            reason = f"cannot be copied to {target.parent}: {error.strerror}"
            raise DataRefused([Fault(file=name, reason=reason, remedy="Free space there")]) from error
    return SourceFile(name=name, size=size, sha256=digest.hexdigest())


def _opened(source: Path) -> BinaryIO:
    """Open a regular file: another may have the name by now."""
    try:
        return open_regular(source)
    except OSError as error:
        if error.errno not in {errno.ELOOP, errno.EINVAL}:
            raise
        raise _Unusable(str(error.strerror)) from error


def _pieces(stream: BinaryIO) -> Iterator[bytes]:
    try:
        while piece := stream.read(_CHUNK):
            yield piece
    except OSError as error:
        raise _Unusable(error.strerror or "cannot be read", "Check the disk that holds it") from error
