"""The door itself: one port, lent to one server at a time."""

import json
import select
import socket
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from services.common.private_socket import listen_privately
from services.door.loan import LENT, TAKEN, peer

_WAITING_CLIENTS = 2048
_WAITING_SERVERS = 8
_PRIVATE = 0o600


class Door:
    """Binds a port and lends it to whoever of ``user`` asks first, until that one hangs up.

    The port listens while it is lent: without a server clients are refused at once, as without a door.

    Args:
        host: the address to bind.
        port: likewise.
        path: of the socket where servers ask; its folder is made, and what a killed door left there is replaced.
        user: whose processes may ask.

    Raises:
        OSError: either cannot be bound.
    """

    def __init__(self, host: str, port: int, path: Path, user: int) -> None:
        self._port = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        self._port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._port.bind((host, port))
        self._asking = listen_privately(path, _WAITING_SERVERS)
        path.chmod(_PRIVATE)
        self._user = user
        self._server: socket.socket | None = None  # who has the port

    def run(self) -> None:
        """Lend until the process ends.

        Raises:
            OSError: a server has made something else of the port.
        """
        say("door open", port=self._port.getsockname()[1])
        while True:
            waiting = [self._asking] if self._server is None else [self._asking, self._server]
            ready, _, _ = select.select(waiting, [], [])
            if self._server in ready:  # first: a server that was started again asks as soon as the one before is gone
                self._take_back()
            if self._asking in ready:
                self._answer()

    def _answer(self) -> None:
        asking, _ = self._asking.accept()
        asking.setblocking(False)
        if peer(asking) != self._user:
            say("refused", user=peer(asking))
            asking.close()
        elif self._server is not None:
            _tell(asking, TAKEN)
            asking.close()
        else:
            self._port.listen(_WAITING_CLIENTS)
            self._server = asking
            if _tell(asking, LENT, self._port.fileno()):
                say("port lent")
            else:
                self._take_back()

    def _take_back(self) -> None:
        """The server is gone, or says something, which none does: whose turn is next is asked anew."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self._port.shutdown(socket.SHUT_RDWR)  # of the port itself, whoever still has it open: it listens no more
        say("port taken back")


def say(event: str, **facts: Any) -> None:
    """One line of the container's log, as the server writes its own."""
    line = facts | {"event": event, "level": "info", "timestamp": datetime.now(UTC).isoformat()}
    sys.stderr.write(json.dumps(line) + "\n")


def _tell(asking: socket.socket, word: bytes, *lent: int) -> bool:
    """Whether it was still there to be told."""
    try:
        return socket.send_fds(asking, [word], lent) == len(word)
    except OSError:
        return False
