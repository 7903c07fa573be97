"""The engine's processes, with those that they started: a core that is killed while it starts takes no worker with it."""

import contextlib
import multiprocessing
import os
import signal
from pathlib import Path


def kill_engine() -> None:
    """SIGKILL to every process that this one started through multiprocessing, and to all below it."""
    started: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            started.setdefault(parent, []).append(int(stat.parent.name))
    doomed = [child.pid for child in multiprocessing.active_children() if child.pid is not None]
    for pid in doomed:  # grows
        doomed += started.get(pid, [])
    for pid in doomed:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
