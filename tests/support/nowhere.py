"""A network that leads nowhere: all that is sent out is swallowed and noted, so that whoever calls out waits for an answer in vain.

A machine whose cable is cut refuses at once and hides such a call; behind a firewall that drops packets a question for a name takes
ten seconds, and a connection minutes.
"""

import contextlib
import ctypes
import fcntl
import os
import select
import socket
import struct
import subprocess
import sys
from io import FileIO
from pathlib import Path
from typing import Self

import pytest

from tests.conftest import REPOSITORY

_ROOT = os.geteuid() == 0
_UNSHARE = ["unshare", "--net"] if _ROOT else ["unshare", "--map-root-user", "--net"]
_SIOCSIFFLAGS, _SIOCSIFADDR, _SIOCADDRT = 0x8914, 0x8916, 0x890B
_IFF_UP, _RTF_UP = 1, 1
_ALL_PACKETS, _ETHERTYPE_IP, _ETHERTYPE_IPV6 = 0x0003, 0x0800, 0x86DD
_UDP, _DNS = 17, 53
_TUN = Path("/dev/net/tun")
_TUNSETIFF, _IFF_TUN = 0x400454CA, 0x1001  # without a header of its own before each packet
_OWN = socket.inet_pton(socket.AF_INET6, "fd00::1")  # who has none but the loopback's asks nobody outside by IPv6
_MULTICAST, _KERNELS_OWN = 0xFF, (0, 58)  # looking for neighbours and routers

HAS_IPV6 = Path("/proc/net/if_inet6").exists() and os.access(_TUN, os.R_OK | os.W_OK)
"""Whether what is sent by IPv6 is led there; elsewhere it is refused at once and not noted."""


class Nowhere:
    """A namespace of its own from which everything that is not for its loopback addresses is led to where nobody takes it.

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
    with (
        contextlib.ExitStack() as held,
        socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ALL_PACKETS)) as seen,
    ):
        if HAS_IPV6:
            _lead_ipv6_into(held.enter_context(_TUN.open("r+b", buffering=0)))
        while True:
            ready, _, _ = select.select([seen, sys.stdin], [], [])
            if seen in ready:
                packet, (_, kind, *_) = seen.recvfrom(128)
                look = {_ETHERTYPE_IP: _outside, _ETHERTYPE_IPV6: _outside_by_ipv6}.get(kind)
                sent |= look(packet) if look is not None else set()
            elif not os.read(sys.stdin.fileno(), 1):
                return
            else:
                sys.stdout.write(" ".join(sorted(sent)) + "\n")
                sys.stdout.flush()


def _lead_ipv6_into(tunnel: FileIO) -> None:
    """The loopback interface takes no IPv6 route to elsewhere: one that nobody reads from does, with an address of its own."""
    fcntl.ioctl(tunnel, _TUNSETIFF, struct.pack("16sH22x", b"nowhere", _IFF_TUN))
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sh22x", b"nowhere", _IFF_UP))
        number = socket.if_nametoindex("nowhere")
        fcntl.ioctl(control, _SIOCSIFADDR, struct.pack("16sIi", _OWN, 128, number))  # struct in6_ifreq
        route = struct.pack("@48xIHHILIi", 0, 0, 0, 1, 0, _RTF_UP, number)  # struct in6_rtmsg
        fcntl.ioctl(control, _SIOCADDRT, route)


def _outside(packet: bytes) -> set[str]:
    """Where an IPv4 packet goes; nothing, where it stays here and asks for no name."""
    address, protocol, length = packet[16:20], packet[9], (packet[0] & 15) * 4
    port = int.from_bytes(packet[length + 2 : length + 4], "big")
    if address[0] == 127 and not (protocol == _UDP and port == _DNS):
        return set()
    return {f"{socket.inet_ntoa(address)}:{port}"}


def _outside_by_ipv6(packet: bytes) -> set[str]:
    """The same of an IPv6 packet, whose first header beyond its own tells the port."""
    address, protocol, port = packet[24:40], packet[6], int.from_bytes(packet[42:44], "big")
    stays = address in {_OWN, socket.inet_pton(socket.AF_INET6, "::1")}
    if address[0] == _MULTICAST and protocol in _KERNELS_OWN:
        return set()
    if stays and not (protocol == _UDP and port == _DNS):
        return set()
    return {f"[{socket.inet_ntop(socket.AF_INET6, address)}]:{port}"}


if __name__ == "__main__":
    main()
