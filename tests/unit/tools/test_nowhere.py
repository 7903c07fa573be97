"""The network in which the end-to-end tests look for calls outside: it sees them, and nothing arrives."""

import subprocess
import sys

import pytest

from tests.support.nowhere import HAS_IPV6, Nowhere

LOOPBACK = """
import socket
with socket.create_server(({own!r}, 0), family=socket.AF_{family}) as server:
    socket.create_connection(server.getsockname()[:2], timeout=1).close()
"""
OUTSIDE = """
import socket
try:
    socket.create_connection(({outside!r}, 443), timeout=0.2)
except TimeoutError:
    raise SystemExit(9)
"""
NAME = """
import socket
with socket.socket(socket.AF_{family}, socket.SOCK_DGRAM) as asking:
    asking.sendto(b"a question", ({own!r}, 53))
"""
NETWORKS = {
    "IPv4": ("INET", "127.0.0.1", "192.0.2.1", ["127.0.0.1:53", "192.0.2.1:443"]),
    "IPv6": ("INET6", "::1", "2001:db8::1", ["[2001:db8::1]:443", "[::1]:53"]),
}


@pytest.mark.parametrize("network", NETWORKS)
def test_what_is_sent_outside_is_seen_and_gets_no_answer(network: str) -> None:
    """Nor does a question for a name go unseen, whoever would answer it; what stays on this machine arrives."""
    if network == "IPv6" and not HAS_IPV6:
        pytest.skip("this machine has no IPv6, or no device for tunnels")
    family, own, outside, seen = NETWORKS[network]
    asked = [address for address in seen if address.endswith(":443")]
    with Nowhere() as nowhere:
        for program, code, sent in ((LOOPBACK, 0, []), (OUTSIDE, 9, asked), (NAME, 0, seen)):
            words = program.format(family=family, own=own, outside=outside)
            assert subprocess.run([*nowhere.prefix, sys.executable, "-c", words], check=False).returncode == code
            assert nowhere.sent() == sent
