"""A network that leads nowhere: all that is sent out is swallowed and noted, so that whoever calls out waits for an answer in vain.

A machine whose cable is cut refuses at once and hides such a call; behind a firewall that drops packets a question for a name takes
ten seconds, and a connection minutes.
"""

import ctypes
import fcntl
import os
import select
import socket
import struct
import subprocess
import sys
from typing import Self

import pytest

from tests.conftest import REPOSITORY

_ROOT = os.geteuid() == 0
_UNSHARE = ["unshare", "--net"] if _ROOT else ["unshare", "--map-root-user", "--net"]
_SIOCSIFFLAGS, _SIOCADDRT = 0x8914, 0x890B
_IFF_UP, _RTF_UP = 1, 1
_ETHERTYPE_IP = 0x0800
_UDP, _DNS = 17, 53


class Nowhere:
    """A namespace of its own with a loopback interface, on which everything else is routed, too, and is dropped there.

    Attributes:
        prefix: words that have a command run in it; the process is the command's own.
    """

    def __enter__(self) -> Self:
        if subprocess.run([*_UNSHARE, "true"], capture_output=True, check=False).returncode:
            pytest.skip("this machine lets nobody but root make a network of its own")
        self._keeper = subprocess.Popen(
            [*_UNSHARE, sys.executable, "-m", "tests.support.nowhere"],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        who = [] if _ROOT else ["--user", "--preserve-credentials"]
        self.prefix = ["nsenter", f"--target={self._keeper.pid}", "--net", *who]
        self.sent()
        return self

    def __exit__(self, *_: object) -> None:
        self._keeper.communicate()

    def sent(self) -> list[str]:
        """Where something was sent that is no loopback address, and every server of names that was asked; with ports where there are any."""
        assert self._keeper.stdin is not None
        assert self._keeper.stdout is not None
        self._keeper.stdin.write("\n")
        self._keeper.stdin.flush()
        return self._keeper.stdout.readline().split()


def main() -> None:
    """Make the network, then say at each line that comes in where something was sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", _IFF_UP))
        name = ctypes.create_string_buffer(b"lo")
        anywhere = struct.pack("H14x", socket.AF_INET)
        route = struct.pack(  # struct rtentry
            "@L16s16s16sHhLPhPLLH", 0, *[anywhere] * 3, _RTF_UP, 0, 0, 0, 0, ctypes.addressof(name), 0, 0, 0
        )
        fcntl.ioctl(control, _SIOCADDRT, route)
    sent: set[str] = set()
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETHERTYPE_IP)) as seen:
        while True:
            ready, _, _ = select.select([seen, sys.stdin], [], [])
            if seen in ready:
                sent |= _outside(seen.recv(128))
            elif not os.read(sys.stdin.fileno(), 1):
                return
            else:
                sys.stdout.write(" ".join(sorted(sent)) + "\n")
                sys.stdout.flush()


def _outside(packet: bytes) -> set[str]:
    """Where an IPv4 packet goes; nothing, where it stays here and asks for no name."""
    address, protocol, length = packet[16:20], packet[9], (packet[0] & 15) * 4
    port = int.from_bytes(packet[length + 2 : length + 4], "big")
    if address[0] == 127 and not (protocol == _UDP and port == _DNS):
        return set()
    return {f"{socket.inet_ntoa(address)}:{port}"}


if __name__ == "__main__":
    main()
