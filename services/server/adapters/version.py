"""A version in the engine's memory."""

from services.registry.manifest import Manifest
from services.server.engine.protocol import EngineAdapter


class Version:
    """A version in the engine's memory.

    Attributes:
        leases: requests that run on it.
    """

    def __init__(self, manifest: Manifest, handle: EngineAdapter) -> None:
        self.manifest = manifest
        self.handle = handle
        self.leases = 0

    @property
    def number(self) -> int:
        """The version's number."""
        return self.manifest.version
