"""One real server with keys for all client programs, each of which runs in an environment of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.house import furnish, serving
from tests.clients.programs_in import Served

collect_ignore = ["programs"]  # they are the clients' own tests, for their own environments


@pytest.fixture(scope="session")
def data(base_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with the real base model and one trained version in service."""
    root = tmp_path_factory.mktemp("clients")
    furnish(root, base_model_dir)
    return root


@pytest.fixture(scope="session")
def served(data: Path) -> Iterator[Served]:
    """A server that is ready, stores responses, and lets few answers wait, so that a client can see it refuse one.

    One for all files, which run in this order: test_client_programs, test_openapi, test_streams_that_break ends it.
    """
    with serving(data, "limits.max_waiting=4") as served:
        yield served
