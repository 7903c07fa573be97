"""Volumes that refuse: mounted read-only, full, or of another user."""

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

_SOMEBODY = 12345
_ALL = (2**32 - 1, 2**32 - 1)


def tree(registry: Path) -> dict[str, bytes]:
    """Every file of a registry, but the lock: it says who held it last."""
    files = (path for path in registry.rglob("*") if path.name != ".lock")
    return {str(path.relative_to(registry)): path.read_bytes() if path.is_file() else b"" for path in files}


class ReadOnly:
    """A real read-only mount of ``folder`` upon itself, which comes and goes."""

    def __init__(self, folder: Path) -> None:
        _only_as_root()
        self._folder = folder
        self._mounted = False

    def mount(self) -> None:
        """From now on nothing can be written there."""
        subprocess.run(["mount", "--bind", "-o", "ro", self._folder, self._folder], check=True)
        self._mounted = True

    def unmount(self) -> None:
        """From now on it can be written again."""
        if self._mounted:
            _unmount(self._folder)
            self._mounted = False


@contextmanager
def read_only(folder: Path) -> Iterator[ReadOnly]:
    """A mount that is gone at the end; ``mount`` it."""
    volume = ReadOnly(folder)
    try:
        yield volume
    finally:
        volume.unmount()


class Small:
    """A real file system of a few MiB in a folder's place, which can be full."""

    def __init__(self, folder: Path) -> None:
        self._ballast = folder / ".ballast"

    def fill(self, *, but: int) -> None:
        """Leave ``but`` bytes of room; whole pages of memory."""
        stats = os.statvfs(self._ballast.parent)
        with self._ballast.open("wb") as ballast:
            os.posix_fallocate(ballast.fileno(), 0, stats.f_bavail * stats.f_frsize - but)

    def clear(self) -> None:
        """There is room again."""
        self._ballast.unlink()


@contextmanager
def small(folder: Path, mebibytes: int = 16) -> Iterator[Small]:
    """Within the block a file system of its own takes the folder's place, at once and with what the folder holds; what comes after is lost."""
    _only_as_root()
    with TemporaryDirectory() as made, ExitStack() as mounted:
        for words in (["-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", made], ["--bind", made, str(folder)]):
            subprocess.run(["mount", *words], check=True)
            mounted.callback(_unmount, words[-1])
            if words[-1] == made:
                shutil.copytree(folder, made, symlinks=True, dirs_exist_ok=True)
        yield Small(folder)


def _only_as_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may mount")


def _unmount(folder: str | Path) -> None:
    """At once, though a server may be reading there."""
    subprocess.run(["umount", "--lazy", folder], check=True)


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
