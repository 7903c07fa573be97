"""Writes that survive a power cut: bytes reach the disk before a name points to them."""

import contextlib
import os
import secrets
from pathlib import Path

PUBLIC_FILE = 0o644
PUBLIC_FOLDER = 0o755


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


def replace_file(file: Path, content: bytes, *, mode: int = PUBLIC_FILE) -> None:
    """Put ``content`` in place of ``file`` at once: a reader sees the old bytes or the new, never a part.

    Raises:
        OSError: the disk is full, or the folder is not writable; the old bytes stay.
    """
    temporary = file.with_name(f".{file.name}.{secrets.token_hex(6)}.tmp")
    try:
        write_file(temporary, content, mode=mode)
        temporary.replace(file)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(file.parent)
