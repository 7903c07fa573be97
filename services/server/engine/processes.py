"""The engine's processes, with those that they started: a core that is killed while it starts takes no worker with it."""

import contextlib
import multiprocessing
import os
import signal
from pathlib import Path


def kill_engine() -> None:
    """SIGKILL to every process that this one started through multiprocessing, and to all below it."""
    _kill([child.pid for child in multiprocessing.active_children() if child.pid is not None])


def kill_tree(pid: int) -> None:
    """SIGKILL to a process and to all below it, this one excepted."""
    _kill([pid])


def _kill(doomed: list[int]) -> None:
    started: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            started.setdefault(parent, []).append(int(stat.parent.name))
    for pid in doomed:  # grows
        doomed += started.get(pid, [])
    for pid in doomed:
        if pid != os.getpid():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
