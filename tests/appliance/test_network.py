"""The server's network has no way out, shown against a host of the test's own that an ordinary container does reach."""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
IMAGE = "python:3.11-slim-bookworm"
SPACE, OUTSIDE, INSIDE, PORT = "whetstone-out", "198.18.0.2", "198.18.0.1", 9000  # RFC 2544's range for tests
ASK = f"import socket; socket.create_connection(({OUTSIDE!r}, {PORT}), timeout=3).close()"

pytestmark = pytest.mark.appliance


def run(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def outside() -> Iterator[None]:
    """A host in a network namespace behind this machine. Like any host outside, it has no route back to Docker's addresses."""
    run("ip", "netns", "add", SPACE)
    try:
        run("ip", "link", "add", "whetstone-v0", "type", "veth", "peer", "name", "whetstone-v1", "netns", SPACE)
        run("ip", "addr", "add", f"{INSIDE}/30", "dev", "whetstone-v0")
        run("ip", "link", "set", "whetstone-v0", "up")
        run("ip", "-n", SPACE, "addr", "add", f"{OUTSIDE}/30", "dev", "whetstone-v1")
        run("ip", "-n", SPACE, "link", "set", "whetstone-v1", "up")
        listen = f"import socket\nwith socket.create_server(({OUTSIDE!r}, {PORT})) as door:\n    while True: door.accept()[0].close()"
        listener = subprocess.Popen(["ip", "netns", "exec", SPACE, "python3", "-c", listen])
        time.sleep(1)
        yield
        listener.kill()
        listener.wait()
    finally:
        run("ip", "netns", "delete", SPACE)


def network_options() -> list[str]:
    """The driver options of the network that Compose gives the server."""
    words = ["docker", "compose", "-f", "compose.yaml", "-f", "compose.cpu.yaml", "config", "--format", "json"]
    done = subprocess.run(words, cwd=REPOSITORY, env=os.environ, check=True, capture_output=True, text=True)
    project = json.loads(done.stdout)
    assert list(project["services"]["server"]["networks"]) == ["closed"]
    options: dict[str, str] = project["networks"]["closed"]["driver_opts"]
    return [word for key, value in options.items() for word in ("--opt", f"{key}={value}")]


def reaches_outside(*options: str) -> bool:
    """Whether a container on a bridge with ``options`` gets an answer from outside."""
    name = "whetstone-network-test"
    run("docker", "network", "create", *options, name)
    try:
        ask = ["docker", "run", "--rm", "--network", name, IMAGE, "python3", "-c", ASK]
        return subprocess.run(ask, capture_output=True, check=False).returncode == 0
    finally:
        run("docker", "network", "rm", name)


@pytest.mark.usefixtures("outside")
def test_nothing_outside_answers_the_server() -> None:
    assert reaches_outside(), "the control: on an ordinary network, outside answers"
    assert not reaches_outside(*network_options())
