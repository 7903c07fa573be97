"""Bind the published port and lend it to the server, until SIGTERM."""

import argparse
import os
import signal
import sys
from pathlib import Path
from typing import Any

from services.door.door import Door


def main(arguments: list[str] | None = None) -> int:
    """Run the door.

    Returns:
        the exit code: 0 after SIGTERM, 1 with one sentence on standard error where port or socket cannot be had, or the port came back
        as something else: the next door has a new one.
    """
    parser = argparse.ArgumentParser(prog="python -m services.door", description=__doc__)
    parser.add_argument("--host", required=True, help="address to bind")
    parser.add_argument("--port", required=True, type=int)
    parser.add_argument("--socket", required=True, type=Path, help="where the server asks, server.door of its settings")
    asked = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, _leave)
    try:
        door = Door(asked.host, asked.port, asked.socket, os.getuid())
    except OSError as error:
        return _failed(f"cannot open {asked.host}:{asked.port} with {asked.socket}: {error.strerror}")
    try:
        door.run()
    except OSError as error:
        return _failed(f"the port is not as it was lent: {error.strerror}")
    return 0


def _failed(reason: str) -> int:
    print(f"error: {reason}", file=sys.stderr)
    return 1


def _leave(*_: Any) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    sys.exit(main())
