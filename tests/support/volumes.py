"""Volumes that refuse: mounted read-only, or of another user."""

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_SOMEBODY = 12345
_ALL = (2**32 - 1, 2**32 - 1)


class ReadOnly:
    """A real read-only mount of ``folder`` upon itself, which comes and goes."""

    def __init__(self, folder: Path) -> None:
        if os.geteuid() != 0:
            pytest.skip("only root may mount")
        self._folder = folder
        self._mounted = False

    def mount(self) -> None:
        """From now on nothing can be written there."""
        subprocess.run(["mount", "--bind", "-o", "ro", self._folder, self._folder], check=True)
        self._mounted = True

    def unmount(self) -> None:
        """From now on it can be written again."""
        if self._mounted:
            subprocess.run(["umount", self._folder], check=True)
            self._mounted = False


@contextmanager
def read_only(folder: Path) -> Iterator[ReadOnly]:
    """A mount that is gone at the end; ``mount`` it."""
    volume = ReadOnly(folder)
    try:
        yield volume
    finally:
        volume.unmount()


@contextmanager
def mode_bits_count() -> Iterator[None]:
    """Whoever runs the tests, owner and mode bits say what this thread and those it starts within the block may read and write."""
    before = _set_effective((0, 0))
    try:
        yield
    finally:
        _set_effective(before)


@contextmanager
def of_another_user(path: Path) -> Iterator[None]:
    """Within the block ``path`` is somebody else's and closed to others; see ``mode_bits_count``, within which this is."""
    before = path.stat()
    _give(path, _SOMEBODY, 0o700)
    try:
        yield
    finally:
        _give(path, before.st_uid, before.st_mode & 0o7777)


def _give(path: Path, owner: int, mode: int) -> None:
    if os.geteuid() != 0:  # who may give nothing away closes it to himself
        path.chmod(mode if owner != _SOMEBODY else 0)
        return
    before = _set_effective(_ALL)
    os.chown(path, owner, -1)
    path.chmod(mode)
    _set_effective(before)


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


def _set_effective(wanted: tuple[int, int]) -> tuple[int, int]:
    """Set this thread's effective capabilities to those of ``wanted`` that it is permitted, see capset(2); those it had."""
    libc = ctypes.CDLL(None, use_errno=True)
    header, sets = _Header(0x20080522, 0), (ctypes.c_uint32 * 6)()  # twice: effective, permitted, inheritable
    if libc.capget(ctypes.byref(header), sets) != 0:
        raise OSError(ctypes.get_errno(), "capget")
    before = sets[0], sets[3]
    sets[0], sets[3] = wanted[0] & sets[1], wanted[1] & sets[4]
    if libc.capset(ctypes.byref(header), sets) != 0:
        raise OSError(ctypes.get_errno(), "capset")
    return before
