"""Names of requests and answers."""

import re

from services.server.identity import unguessable


def test_no_two_names_are_alike() -> None:
    """Not beyond what is drawn at once, either."""
    names = [unguessable() for _ in range(1000)]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch("[0-9a-f]{24}", name) for name in names)
