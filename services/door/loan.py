"""What door and server say to each other, and the server's end of it: a listening socket is lent for as long as both live.

The server connects. The door answers ``LENT`` with the socket, and how long the last server's start took, or ``TAKEN`` without either. The
server says how long its own took, once it has. The connection stays open, and its end tells either that the other is gone.
"""

import array
import asyncio
import contextlib
import socket
import struct
from pathlib import Path

LENT, TAKEN = b"L", b"T"
SAYS = struct.Struct("!H")  # how long a start took, in seconds; 0 where nobody knows
_SECONDS = 2.0  # a door has nothing else to do
_LONGEST = 2**16 - 1


class NoDoor(Exception):
    """No door is there, or what is there is none; the message says which."""


class PortTaken(Exception):
    """Another server has the port; the message says by which door."""


class Loan:
    """The port, for as long as this connection to the door lives.

    Attributes:
        port: the listening socket, of the door's network; whoever uses it takes it out.
        start_seconds: how long the start of the server before took; 0 where nobody knows.
    """

    def __init__(self, port: socket.socket, door: socket.socket, start_seconds: int) -> None:
        self.port = port
        self.start_seconds = start_seconds
        self._door = door

    def tell(self, start_seconds: int) -> None:
        """How long this server's start took: the door tells clients to wait for as long when the server is gone."""
        with contextlib.suppress(OSError):  # it is gone, and ``over`` says so
            self._door.send(SAYS.pack(min(start_seconds, _LONGEST)))

    async def over(self) -> None:
        """Wait until the door is gone, and with it the network that the socket is of."""
        with contextlib.suppress(ConnectionError):
            await asyncio.get_running_loop().sock_recv(self._door, 1)

    def give_back(self) -> None:
        """Let the door answer clients, and lend the port to another server."""
        self.port.close()
        self._door.close()


def borrow(path: Path) -> Loan:
    """Ask the door at ``path``.

    Raises:
        NoDoor: see there.
        PortTaken: see there.
    """
    door = socket.socket(socket.AF_UNIX)
    try:
        door.settimeout(_SECONDS)
        door.connect(str(path))
        said, held = _receive(door)
    except OSError as error:
        door.close()
        raise NoDoor(f"no door at {path}: {error.strerror or error}") from error
    if said[:1] == LENT and len(said) == len(LENT) + SAYS.size and len(held) == 1 and listens(held[0]):
        door.setblocking(False)
        return Loan(held[0], door, SAYS.unpack(said[len(LENT) :])[0])
    for other in (door, *held):
        other.close()
    if said == TAKEN:
        raise PortTaken(f"another server has the port of the door at {path}")
    raise NoDoor(f"no door at {path}: what answers there lends no port")


def lent(start_seconds: int) -> bytes:
    """What the door says as it lends."""
    return LENT + SAYS.pack(start_seconds)


def listens(port: socket.socket) -> bool:
    """Whether clients come in by it: anything else would be served in silence."""
    of_the_network = port.family in {socket.AF_INET, socket.AF_INET6}
    return of_the_network and bool(port.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def peer(connection: socket.socket) -> int:
    """The user of the process at the other end."""
    size = struct.calcsize("3i")
    _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return int(uid)


def _receive(door: socket.socket) -> tuple[bytes, list[socket.socket]]:
    """Not ``recv_fds``, which leaves what it receives open in programs that this process starts."""
    room = socket.CMSG_SPACE(array.array("i", [0]).itemsize)
    said, more, _, _ = door.recvmsg(len(LENT) + SAYS.size, room, socket.MSG_CMSG_CLOEXEC)
    numbers = array.array("i")
    for level, kind, data in more:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            numbers.frombytes(data[: len(data) - len(data) % numbers.itemsize])
    return said, [socket.socket(fileno=number) for number in numbers]
