"""The appliance's commands, with data of their own, and a host outside."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.conftest import REPOSITORY
from tools.preflight import firewall_rule

PORT = 18_000
NETWORK = "198.51.100"  # not the one of an appliance beside it
SPACE, OUTSIDE, GATEWAY, LISTENS = "whetstone-out", "198.18.0.2", "198.18.0.1", 9000  # RFC 2544's range for tests


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Run a target of the Makefile with its own data folder, project name and port; stop everything at the end."""
    data = tmp_path_factory.mktemp("appliance")
    environment = os.environ | {
        "PROFILE": "cpu",
        "PYTHON": sys.executable,
        "WHETSTONE_DATA_DIR": str(data),
        "WHETSTONE_PORT": str(PORT),
        "WHETSTONE_NETWORK": NETWORK,
        "WHETSTONE_CPU_THREADS": ",".join(map(str, sorted(os.sched_getaffinity(0)))),
        "COMPOSE_PROJECT_NAME": "whetstone-test",
        "DOCKER_BUILDKIT": "1",
        # As the Makefile has it, for what a test asks Compose itself.
        "WHETSTONE_UID": "10001",
        "WHETSTONE_GID": "10001",
    }
    data.chmod(0o755)

    def run(target: str, *words: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        begun = time.monotonic()
        done = subprocess.run(
            ["make", "--no-print-directory", target, *words],
            cwd=REPOSITORY,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        sys.stdout.write(
            f"\n$ make {target} {' '.join(words)}   ({time.monotonic() - begun:.0f} s, exit {done.returncode})\n"
        )
        if check and done.returncode != 0:
            pytest.fail(f"make {target}: exit code {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
        return done

    run.data = data  # type: ignore[attr-defined]
    run.environment = environment  # type: ignore[attr-defined]
    yield run
    run("down", check=False)


@pytest.fixture(scope="module")
def outside() -> Iterator[str]:
    """The address of a host in a network namespace behind this machine. Like any host outside, it has no route back to Docker's."""
    _ip("netns", "add", SPACE)
    try:
        _ip("link", "add", "whetstone-v0", "type", "veth", "peer", "name", "whetstone-v1", "netns", SPACE)
        _ip("addr", "add", f"{GATEWAY}/30", "dev", "whetstone-v0")
        _ip("link", "set", "whetstone-v0", "up")
        _ip("-n", SPACE, "addr", "add", f"{OUTSIDE}/30", "dev", "whetstone-v1")
        _ip("-n", SPACE, "link", "set", "whetstone-v1", "up")
        listen = f"import socket\nwith socket.create_server(({OUTSIDE!r}, {LISTENS})) as door:\n    while True: door.accept()[0].close()"
        listener = subprocess.Popen(["ip", "netns", "exec", SPACE, "python3", "-c", listen])
        try:
            _wait_for(OUTSIDE, LISTENS)
            yield OUTSIDE
        finally:
            listener.kill()
            listener.wait()
    finally:
        _ip("netns", "delete", SPACE)


@contextmanager
def firewall() -> Iterator[None]:
    """The rule that preflight advises, for the test's own door alone."""
    words = firewall_rule(NETWORK)
    subprocess.run(["iptables", "-t", "mangle", "-I", *words], check=True)
    try:
        yield
    finally:
        subprocess.run(["iptables", "-t", "mangle", "-D", *words], check=True)


def _wait_for(host: str, port: int) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection((host, port), timeout=1).close()
        except OSError:
            assert time.monotonic() < deadline, "the host outside does not listen"
            time.sleep(0.1)
        else:
            return


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
