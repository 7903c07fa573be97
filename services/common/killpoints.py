"""Places at which tests end a process as ``kill -9`` does.

``WHETSTONE_KILL_AT=pointer:2`` ends it at its second passage of a place whose name begins with ``pointer``, ``:7`` at its seventh of any.

Safe where it is forgotten: unset, a passage is one comparison. Set, all it can do is end the process that was started with it, which
whoever sets a process's environment can do anyway; it reads nothing else, and what a kill leaves behind is what every start mends.
"""

import os
import signal
import sys

VARIABLE = "WHETSTONE_KILL_AT"


class _Wanted:
    """The place at which to die, and how many passages of it are left before."""

    def __init__(self, text: str) -> None:
        prefix, _, count = text.rpartition(":")
        self.prefix, self.left = prefix, int(count)


_wanted: _Wanted | None = None


def arm(text: str) -> None:
    """Die where ``text`` says; nowhere, where it is empty.

    Raises:
        ValueError: it is no ``place:count``.
    """
    global _wanted  # noqa: PLW0603 - of the process, as its death is
    _wanted = _Wanted(text) if text else None


def passing(place: str) -> None:
    """Note that the process has come to ``place``; it may end here."""
    if _wanted is None or not place.startswith(_wanted.prefix):
        return
    _wanted.left -= 1
    if _wanted.left == 0:
        sys.stderr.write(f"killed at {place}\n")
        sys.stderr.flush()
        os.kill(os.getpid(), signal.SIGKILL)


arm(os.environ.get(VARIABLE, ""))
