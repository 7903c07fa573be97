"""Connections and the files that a process may have open."""

import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY

PROGRAM = """
import resource, sys
from services.server.open_files import make_room
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[2])))
print(make_room(4096), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(
    ("soft", "hard", "room", "raised"),
    [
        (1024, 20_000, 4096, 4608),
        (10_000, 20_000, 4096, 10_000),
        (1024, 2048, 1536, 2048),
        (256, 600, 300, 600),
    ],
    ids=["raised", "enough", "as far as it may", "hardly any"],
)
def test_room_is_made_as_far_as_the_host_lets_it(soft: int, hard: int, room: int, raised: int) -> None:
    """The soft limit rises to what the connections and the rest need, not beyond the hard one; fewer are let in where that is too low."""
    words = [sys.executable, "-c", PROGRAM, str(soft), str(hard)]
    printed = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    assert [int(word) for word in printed.split()] == [room, raised, hard]
