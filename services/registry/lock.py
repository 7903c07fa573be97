"""Locks held by a living process: the kernel frees them when it dies, however it dies."""

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from services.registry.errors import RegistryBusy, unwritable
from services.registry.layout import Registry

REGISTRY_LOCK = ".lock"


@contextmanager
def exclusive(file: Path, purpose: str, *, wait_seconds: float = 0.0) -> Iterator[int]:
    """Hold ``file`` for one process at a time; the descriptor, for a child that is to hold it, too.

    Args:
        file: the lock file; it is made where missing and never deleted.
        purpose: what a process that finds the lock taken is told, such as ``retrain``.
        wait_seconds: how long to wait for the holder; 0 ends at once.

    Raises:
        RegistryBusy: another living process holds it; the message says who and since when.
        RegistryError: the lock file cannot be opened.
    """
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        raise unwritable(file, error) from error
    try:
        _acquire(descriptor, file, wait_seconds)
        since = datetime.now(UTC).isoformat(timespec="seconds")
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{purpose}, process {os.getpid()} on {socket.gethostname()}, since {since}".encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, file: Path, wait_seconds: float) -> None:
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                holder = os.pread(descriptor, 300, 0).decode(errors="replace") or "another process"
                raise RegistryBusy(f"{file} is held by: {holder}. Wait for it to end, then try again") from None
            time.sleep(0.05)
        else:
            return


@contextmanager
def registry_lock(registry: Registry, purpose: str) -> Iterator[None]:
    """Serialise what writes to the registry: version numbers and pointers. Held for milliseconds, so a caller waits."""
    try:
        registry.root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(registry.root, error) from error
    with exclusive(registry.root / REGISTRY_LOCK, purpose, wait_seconds=30.0):
        yield
