"""Fixtures of the server's unit tests."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.server.fakes import FakeEngine
from tests.unit.server.harness import Server


@pytest.fixture
def engine() -> FakeEngine:
    """What the server asks; a file of tests may have its own."""
    return FakeEngine()


@pytest.fixture
async def server(tmp_path: Path, engine: FakeEngine) -> AsyncIterator[Server]:
    """The application on a fake engine, serving, with an empty registry and no keys."""
    server = Server(tmp_path, engine=engine)
    yield server
    server.model.renderer.close()
    assert server.services.admission.in_flight == 0, "a request did not give back its place"
    versions = [version for entry in server.services.catalogue.entries.values() for version in entry.loaded.values()]
    assert all(version.leases == 0 for version in versions), "a request did not give back its version"
