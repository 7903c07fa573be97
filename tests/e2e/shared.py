"""What most files of server tests share: a registry and one server on it. Each file finds both as the first one did, whatever ran before."""

from pathlib import Path

from services.common.durable import replace_file
from services.common.paths import DataPaths
from services.registry.layout import Registry
from services.registry.pointer import promote
from tests.e2e.asking import ANSWERS, BASE
from tests.e2e.serving import ServerProcess, delete

ADAPTER = "acme"
NO_KEY = b'{"keys": []}\n'  # for a running server a file that is gone opens nothing


def restore(data: Path) -> None:
    """Have ``acme@1`` in service and ``acme@2`` as its newest candidate, nothing else published, and no key."""
    registry = Registry(data / "registry")
    promote(registry, ADAPTER, 1)
    others = [adapter for adapter in registry.adapters() if adapter != ADAPTER and registry.versions(adapter)]
    later = [version for version in registry.versions(ADAPTER) if version not in ANSWERS]
    delete(data, [*((adapter, None) for adapter in others), *((ADAPTER, version) for version in later)])
    keys = DataPaths(data).keys / "keys.json"
    if keys.exists():
        replace_file(keys, NO_KEY)


class SharedServer:
    """A server that is started when a file asks for it, and again where the one before has ended.

    Args:
        data: the data root, with both versions of ``acme``.
    """

    def __init__(self, data: Path) -> None:
        self._data = data
        self._last: ServerProcess | None = None

    @property
    def start_seconds(self) -> float:
        """How long its last start took; where there was none yet, it is started."""
        return (self._last or self.running()).start_seconds

    def running(self) -> ServerProcess:
        """The server, once it serves what ``restore`` left; it judges a canary by few answers."""
        if self._last is None or self._last.process.poll() is not None:
            self.end()
            self._last = ServerProcess(self._data, "canary.min_answers=8")
            self._last.wait_ready()
        server = self._last
        server.client.api_key = "none"
        server.wait(lambda: server.readiness["status"] == "ready" and server.readiness["keyless"])
        names = [BASE, ADAPTER, *(f"{ADAPTER}@{version}" for version in ANSWERS)]
        server.wait(lambda: server.names() == names)
        server.wait(lambda: server.readiness["adapters"][ADAPTER]["serving"] == f"{ADAPTER}@1")
        return server

    def end(self) -> None:
        """Nothing is left of it, so that another may have the data root."""
        if self._last is not None:
            self._last.end()
