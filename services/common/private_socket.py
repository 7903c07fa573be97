"""A Unix socket for processes of the same user. Standard library alone: the door has no more."""

import socket
from pathlib import Path

_PRIVATE = 0o700


def listen_privately(path: Path, backlog: int) -> socket.socket:
    """Listen there, in a folder for this user alone, in place of what a killed process left; the last one to start has it.

    Raises:
        OSError: the folder is somebody else's, or the path is too long.
    """
    held = socket.socket(socket.AF_UNIX)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.parent.chmod(_PRIVATE)  # whoever made it
        path.unlink(missing_ok=True)
        held.bind(str(path))
        held.listen(backlog)
    except OSError:
        held.close()
        raise
    return held
