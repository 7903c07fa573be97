"""No container has a way out, shown from inside against a host of the test's own that an ordinary container does reach."""

import json
import socket
import subprocess
from typing import Any

import pytest

from tests.appliance.conftest import LISTENS, NETWORK, SPACE, firewall
from tests.appliance.inside import COMPOSE, inside
from tests.conftest import REPOSITORY

IMAGE = "python:3.11-slim-bookworm"
# What a server taken over could do with the one socket that it has: the port, turned round, calls somebody.
TURNED = """
import json, pathlib, socket, sys, time
from services.door.loan import NoDoor, borrow

def borrowed():
    for _ in range(100):  # a port that was turned round ends the door, and Docker starts it again
        try:
            return borrow(pathlib.Path("/data/door/door.sock"))
        except NoDoor:
            time.sleep(0.1)
    raise SystemExit("no door")

def calls(host):
    loan = borrowed()
    try:
        loan.port.shutdown(socket.SHUT_RDWR)
        loan.port.settimeout(3)
        loan.port.connect((host, 9000))
        return True
    except OSError:
        return False
    finally:
        loan.give_back()

print(json.dumps({host: calls(host) for host in sys.argv[1:]}))
"""

pytestmark = pytest.mark.appliance


@pytest.mark.parametrize("service", ["door", "server", "trainer"])
def test_nothing_outside_answers(make: Any, outside: str, service: str) -> None:
    """Neither an address nor a name; server and trainer have no interface for it at all."""
    make("folders")
    ask = f"import socket; socket.create_connection(({outside!r}, {LISTENS}), timeout=3).close()"
    subprocess.run(["docker", "run", "--rm", IMAGE, "python3", "-c", ask], check=True)  # the control
    found = inside(service, make.environment, ask=[outside])
    assert (found["reaches"], found["resolves"]) == ([], False)
    assert found["sent"] == 0, "a question for a name left the container"
    if service != "door":
        assert (found["interfaces"], found["routes"]) == (["lo"], 0)


def test_the_lent_port_leads_nowhere(make: Any, outside: str) -> None:
    """Turned round by a server that was taken over, it is of the door's network, whose packets nobody passes on: not one comes outside.

    The host is on that network, too, and answers: so the port was turned indeed. With the firewall's rule that preflight advises it does not.
    """
    make("folders")
    compose = [*COMPOSE, "up", "--detach", "--wait", "--no-deps", "door"]
    subprocess.run(compose, cwd=REPOSITORY, env=make.environment, check=True, capture_output=True)
    host = f"{NETWORK}.1"
    probe = [
        *COMPOSE,
        "run",
        "--rm",
        "--no-deps",
        "-T",
        "--entrypoint",
        "python",
        "server",
        "-c",
        TURNED,
        outside,
        host,
    ]
    with socket.create_server((host, LISTENS)):
        before = _received()
        done = subprocess.run(probe, cwd=REPOSITORY, env=make.environment, check=True, capture_output=True, text=True)
        assert json.loads(done.stdout) == {outside: False, host: True}
        assert _received() == before
        with firewall():
            done = subprocess.run(
                probe, cwd=REPOSITORY, env=make.environment, check=True, capture_output=True, text=True
            )
    assert json.loads(done.stdout) == {outside: False, host: False}


def _received() -> int:
    """TCP segments that came to the host outside."""
    counters = subprocess.run(
        ["ip", "netns", "exec", SPACE, "cat", "/proc/net/snmp"], check=True, capture_output=True, text=True
    ).stdout
    names, values = (line.split() for line in counters.splitlines() if line.startswith("Tcp:"))
    return int(values[names.index("InSegs")])
