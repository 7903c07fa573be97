"""Writes that survive a power cut: bytes reach the disk before a name points to them."""

import contextlib
import os
import secrets
from pathlib import Path

from services.common.killpoints import passing

PUBLIC_FILE = 0o644
PUBLIC_FOLDER = 0o755
_TEMPORARY = ".tmp"


def sync_folder(folder: Path) -> None:
    """Make renames and new names inside ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(file: Path) -> None:
    """Make the bytes of ``file`` durable."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_file(file: Path, content: bytes, *, mode: int = PUBLIC_FILE) -> None:
    """Write a new file and sync it; an existing one is an error.

    Raises:
        FileExistsError: ``file`` exists.
        OSError: the disk is full, or the folder is not writable.
    """
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as stream:
        os.fchmod(stream.fileno(), mode)  # whatever the umask says: the server reads as another user
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def remove_temporaries(folder: Path) -> list[str]:
    """Delete what killed ``replace_file``s left in ``folder``; the names of what went. Nobody may be writing there."""
    gone = []
    for entry in folder.iterdir() if folder.is_dir() else ():
        if entry.name.startswith(".") and entry.name.endswith(_TEMPORARY) and not entry.is_dir():
            entry.unlink()
            gone.append(entry.name)
    return gone


def replace_file(file: Path, content: bytes, *, mode: int = PUBLIC_FILE) -> None:
    """Put ``content`` in place of ``file`` at once: a reader sees the old bytes or the new, never a part.

    Raises:
        OSError: the disk is full, or the folder is not writable; the old bytes stay.
    """
    temporary = file.with_name(f".{file.name}.{secrets.token_hex(6)}{_TEMPORARY}")
    try:
        write_file(temporary, content, mode=mode)
        passing("replace: written")
        temporary.replace(file)
        passing("replace: in place")
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(file.parent)
