"""A registry that the server cannot read: what is loaded serves on, and readiness and ``status`` say what is wrong, and where."""

import io
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from services.registry.pointer import promote
from services.server.readiness import Readiness
from services.server.status import show
from tests.support.volumes import mode_bits_count, of_another_user
from tests.unit.server.fakes import BASE
from tests.unit.server.harness import Server, publish_version

ROOT, ADAPTER, POINTER = "", "acme", "acme/current.json"
VERSION, WEIGHTS = "acme/2", "acme/2/adapter_model.safetensors"


@pytest.fixture(autouse=True)
def _ordinary_user() -> Iterator[None]:
    with mode_bits_count():
        yield


@pytest.fixture
def server(server: Server) -> Server:
    """With ``acme@2`` to serve, after ``acme@1``; nothing is loaded yet."""
    for version in (1, 2):
        publish_version(server.registry)
        promote(server.registry, "acme", version)
    return server


async def _status(server: Server) -> tuple[str, str]:
    """The status, and what ``make status`` shows."""
    answer = await server.ask("/readyz")
    assert answer.status == 200
    readiness = msgspec.json.decode(answer.body, type=Readiness)
    screen = io.StringIO()
    show(readiness, Console(file=screen, width=400))
    return readiness.status, screen.getvalue()


@pytest.mark.parametrize("place", [ROOT, ADAPTER, POINTER])
async def test_what_is_loaded_serves_on(server: Server, place: str) -> None:
    """The registry's folder, the adapter's or the pointer is somebody else's from one moment to the next; then it is mended."""
    await server.reconcile()
    path = server.registry.root / place
    with of_another_user(path):
        await server.reconcile()
        assert (await server.chat(model="acme")).json["model"] == "acme@2"
        status, screen = await _status(server)
    assert status == "degraded"
    assert str(path) in screen
    assert "Permission denied; check the volume and its owner" in screen
    assert ("make promote" in screen) == (place == POINTER), "a promotion writes a pointer anew, and opens no folder"
    await server.reconcile()
    assert (await _status(server))[0] == "ready"


@pytest.mark.parametrize("place", [VERSION, WEIGHTS])
async def test_a_version_that_cannot_be_read_is_refused_alone(server: Server, place: str) -> None:
    """A start serves the one before and says why; when it is mended, the server notices by itself."""
    with of_another_user(server.registry.root / place):
        await server.reconcile()
        assert (await server.chat(model="acme")).json["model"] == "acme@1"
        status, screen = await _status(server)
    assert status == "degraded"
    assert (
        f"! acme@2: {'manifest.json' if place == VERSION else Path(place).name}: Permission denied; give the registry to user"
        in screen
    )
    await server.reconcile()
    assert (await server.chat(model="acme")).json["model"] == "acme@2"
    assert (await _status(server))[0] == "ready"


@pytest.mark.parametrize("place", [ROOT, ADAPTER, POINTER])
async def test_a_start_without_the_registry_serves_the_base(server: Server, place: str) -> None:
    """An adapter's name is 503 and not 404: it may be there, and clients are to come back."""
    with of_another_user(server.registry.root / place):
        await server.reconcile()
        assert (await server.chat(model=BASE)).status == 200
        answer = await server.chat(model="acme")
        assert (answer.status, answer.headers["retry-after"]) == (503, "5")
        status, screen = await _status(server)
    assert status == "degraded"
    assert "Permission denied; check the volume and its owner" in screen
    await server.reconcile()
    assert (await server.chat(model="acme")).json["model"] == "acme@2"
    assert (await server.chat(model="nobody")).status == 404
