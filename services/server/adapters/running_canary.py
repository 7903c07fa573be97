"""One canary: which users get it, and how its last answers compare with those of the version in service."""

import hashlib
from collections import deque
from collections.abc import Mapping

from services.registry.pointer import Canary
from services.server.adapters.version import Version

_SLICES = 10_000


class Window:
    """The last answers of one version.

    Attributes:
        requests: whether each of the last requests failed by the server's fault.
        endings: whether each of the last finished answers ran into its limit.
    """

    def __init__(self, size: int) -> None:
        self.requests: deque[bool] = deque(maxlen=size)
        self.endings: deque[bool] = deque(maxlen=size)

    def note(self, *, failed: bool, finish_reasons: Mapping[str, int]) -> None:
        """Take in one request."""
        self.requests.append(failed)
        for reason, count in finish_reasons.items():
            self.endings.extend([reason == "length"] * count)

    @property
    def failures(self) -> int:
        """How many of the requests failed."""
        return sum(self.requests)

    @property
    def length_share(self) -> float:
        """Share of the answers that ran into their limit."""
        return sum(self.endings) / len(self.endings) if self.endings else 0.0


class RunningCanary:
    """One canary of one adapter, from the moment its version is loaded.

    Args:
        adapter: its name.
        canary: what the pointer says.
        version: the version in memory.
        size: of the windows.
        tripped: why it ended by itself, if it did before a restart.
    """

    def __init__(self, adapter: str, canary: Canary, version: Version, size: int, tripped: str | None) -> None:
        self.canary = canary
        self.version = version
        self.tripped = tripped
        self.own, self.others = Window(size), Window(size)
        # Not by when it began: who raises the share keeps the users who have it already.
        self._salt = f"{adapter}\0{canary.version}\0".encode()

    def takes(self, identity: str) -> bool:
        """Whether the user called ``identity`` gets the canary: always the same answer for as long as it runs."""
        if self.tripped is not None:
            return False
        digest = hashlib.sha256(self._salt + identity.encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(digest[:8], "big") % _SLICES < self.canary.percent * (_SLICES // 100)
