"""The operator's files: found, refused where they are not plain files of the mount, and copied before anything reads them.

Everything after works on the copy, so that files which change during a run change nothing in it.
"""

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import msgspec

from services.trainer.data.faults import DataRefused, Fault

_CHUNK = 1024 * 1024


class SourceFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file of the snapshot; ``name`` is relative to the datasets folder, ``size`` in bytes."""

    name: str
    size: int
    sha256: str


def take_snapshot(datasets: Path, snapshot: Path) -> tuple[SourceFile, ...]:
    """Copy every ``*.jsonl`` file below ``datasets`` into ``snapshot``, hashing what is copied.

    Raises:
        DataRefused: there is none, or one is a link, a pipe, a device or unreadable.
    """
    if not datasets.is_dir():
        raise DataRefused([Fault(file=str(datasets), reason="no such folder", remedy="Put your .jsonl files there")])
    snapshot.mkdir(parents=True)
    files: list[SourceFile] = []
    faults: list[Fault] = []
    for path in _find(datasets):
        name = path.relative_to(datasets).as_posix()
        try:
            files.append(_copy(path, name, snapshot / name))
        except _NotAFile as error:
            faults.append(Fault(file=name, reason=str(error), remedy="Put a regular file in its place"))
        except OSError as error:
            remedy = "Make it readable for the trainer (chmod a+r)"
            faults.append(Fault(file=name, reason=error.strerror or "cannot be read", remedy=remedy))
    if not files and not faults:
        faults.append(Fault(file=str(datasets), reason="holds no .jsonl file", remedy="Put at least one there"))
    if faults:
        raise DataRefused(faults)
    return tuple(files)


def snapshot_hash(files: tuple[SourceFile, ...]) -> str:
    """One hash over the names and contents of all files."""
    return hashlib.sha256(msgspec.json.encode([(file.name, file.sha256) for file in files])).hexdigest()


class _NotAFile(Exception):
    """Something else than a regular file of the mount."""


def _find(folder: Path) -> Iterator[Path]:
    """Every entry named ``*.jsonl``, whatever it is, in order of name; linked folders are not entered."""
    for parent, folders, names in os.walk(folder, followlinks=False):
        folders.sort()
        here = [*names, *(name for name in folders if name.endswith(".jsonl"))]
        yield from (Path(parent, name) for name in sorted(here) if name.endswith(".jsonl"))


def _copy(source: Path, name: str, target: Path) -> SourceFile:
    kind = source.lstat().st_mode
    if stat.S_ISLNK(kind):
        raise _NotAFile("is a symbolic link, which could lead out of the mount")
    if not stat.S_ISREG(kind):
        raise _NotAFile("is not a regular file")
    # Checked again on what was opened: the name may have been changed in between, and a pipe must not block.
    descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            raise _NotAFile("is not a regular file")
        target.parent.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        size = 0
        with target.open("wb") as copy:
            while piece := stream.read(_CHUNK):
                digest.update(piece)
                size += len(piece)
                copy.write(piece)
    return SourceFile(name=name, size=size, sha256=digest.hexdigest())
