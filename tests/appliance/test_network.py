"""No container has a way out, shown from inside against a host of the test's own that an ordinary container does reach."""

import subprocess
from typing import Any

import pytest

from tests.appliance.conftest import LISTENS
from tests.appliance.inside import inside

IMAGE = "python:3.11-slim-bookworm"

pytestmark = pytest.mark.appliance


@pytest.mark.parametrize("service", ["server", "trainer"])
def test_nothing_outside_answers(make: Any, outside: str, service: str) -> None:
    """Neither an address nor a name; the trainer has no interface for it at all."""
    make("folders")
    ask = f"import socket; socket.create_connection(({outside!r}, {LISTENS}), timeout=3).close()"
    subprocess.run(["docker", "run", "--rm", IMAGE, "python3", "-c", ask], check=True)  # the control
    found = inside(service, make.environment, ask=[outside])
    assert (found["reaches"], found["resolves"]) == ([], False)
    assert found["sent"] == 0, "a question for a name left the container"
    if service == "trainer":
        assert (found["interfaces"], found["routes"]) == (["lo"], 0)
