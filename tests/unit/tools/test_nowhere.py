"""The network in which the end-to-end tests look for calls outside: it sees them, and nothing arrives."""

import subprocess
import sys

from tests.support.nowhere import Nowhere

LOOPBACK = """
import socket
with socket.create_server(("127.0.0.1", 0)) as server:
    socket.create_connection(server.getsockname(), timeout=1).close()
"""
OUTSIDE = """
import socket
try:
    socket.create_connection(("192.0.2.1", 443), timeout=0.2)
except TimeoutError:
    raise SystemExit(9)
"""
NAME = """
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
    asking.sendto(b"a question", ("127.0.0.1", 53))
"""


def test_what_is_sent_outside_is_seen_and_gets_no_answer() -> None:
    """Nor does a question for a name go unseen, whoever would answer it; what stays on this machine arrives."""
    with Nowhere() as nowhere:
        for program, code, sent in (
            (LOOPBACK, 0, []),
            (OUTSIDE, 9, ["192.0.2.1:443"]),
            (NAME, 0, ["127.0.0.1:53", "192.0.2.1:443"]),
        ):
            assert subprocess.run([*nowhere.prefix, sys.executable, "-c", program], check=False).returncode == code
            assert nowhere.sent() == sent
