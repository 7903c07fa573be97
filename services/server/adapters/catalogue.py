"""Which version answers to which name. A request leases the version it began with; the last lease ends an old version."""

import msgspec

from services.jobs.deletions import Deletion, is_deleted
from services.registry.layout import model_name, split_model_name
from services.server.adapters.running_canary import RunningCanary
from services.server.adapters.version import Version
from services.server.engine.protocol import EngineAdapter
from services.server.errors import ModelNotFound, Unavailable

RETRY_SECONDS = 5


class Refusal(msgspec.Struct, frozen=True):
    """A version that is not served, and why; ``signature`` tells whether its files changed since."""

    reason: str
    signature: object


class Entry:
    """What is known of one adapter.

    Attributes:
        wanted: the version that the pointer names.
        fallback: the one before it, by the pointer; serves when a start finds ``wanted`` damaged.
        serving: the version that the alias leads to.
        loaded: every version that new requests may get, by number.
        refused: versions that were refused, by number.
        problem: what is wrong with the adapter as a whole, such as an unreadable pointer.
        canary: what some users get instead of ``serving``.
        published: every version in the registry, oldest first.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.wanted: int | None = None
        self.fallback: int | None = None
        self.serving: Version | None = None
        self.loaded: dict[int, Version] = {}
        self.refused: dict[int, Refusal] = {}
        self.problem: str | None = None
        self.canary: RunningCanary | None = None
        self.published: list[int] = []

    @property
    def lost(self) -> str | None:
        """What is wrong where the version that is served is in the engine alone, so that the next start cannot have it."""
        if self.serving is None or self.serving.number in self.published:
            return None
        name = self.serving.handle.name
        return f"{name} is gone from the registry and serves on until the server ends; restore its folder, or promote another version"


class Lease:
    """A request's hold on what it began with; ``release`` it once, at the end.

    Attributes:
        model: the name for the answer: the base's, or one that pins the version.
        alias: the adapter's name, where the client named no version, so that a canary answers for what it gets.
    """

    def __init__(self, model: str, version: Version | None, *, alias: str | None = None) -> None:
        self.model = model
        self.alias = alias
        self._version = version

    @property
    def handle(self) -> EngineAdapter | None:
        """The version in the engine; None for the base model."""
        return self._version.handle if self._version else None

    def release(self) -> None:
        """Give the version back."""
        if self._version is not None:
            self._version.leases -= 1
            self._version = None


class Catalogue:
    """Base model and adapters by name. ``reconcile`` writes it, requests read it; both on the event loop.

    Args:
        base: the name that apps call the base model by.

    Attributes:
        deleted: models that are offered no more, whatever is still loaded of them.
        blind: the registry cannot be read, and nothing is known of it: any name may be an adapter's.
    """

    def __init__(self, base: str) -> None:
        self.base = base
        self.entries: dict[str, Entry] = {}
        self.deleted: list[Deletion] = []
        self.blind = False

    def lease(self, model: str, identity: str = "") -> Lease:
        """Hold the version that ``model`` means now: the base, an alias, or a pinned ``adapter@version``.

        Args:
            model: as the client wrote it.
            identity: of the user behind the request; the same one gets the same version while a canary runs.

        Raises:
            ModelNotFound: no such name is served.
            Unavailable: the adapter exists, but none of its versions could be loaded.
        """
        if model == self.base:
            return Lease(self.base, None)
        version = self._version(model)
        entry = self.entries.get(model)  # an alias: a pinned name gets what it names, and has no entry
        if (
            entry is not None
            and entry.canary is not None
            and not self.is_deleted(entry.name, entry.canary.version.number)
            and entry.canary.takes(identity)
        ):
            version = entry.canary.version
        version.leases += 1
        return Lease(version.handle.name, version, alias=entry.name if entry is not None else None)

    def names(self) -> list[str]:
        """Every name that ``lease`` takes now."""
        names = [self.base]
        for entry in sorted(self.entries.values(), key=lambda entry: entry.name):
            if entry.serving is not None and not self.is_deleted(entry.name, entry.serving.number):
                names.append(entry.name)
            offered = [number for number in sorted(entry.loaded) if not self.is_deleted(entry.name, number)]
            names += [model_name(entry.name, number) for number in offered]
        return names

    def entry(self, model: str) -> Entry:
        """The adapter of an alias or a pinned name that is in the registry, loaded or not.

        Raises:
            ModelNotFound: it is not, or is deleted.
        """
        name, number = split_model_name(model)
        entry = self.entries.get(name)
        left = [] if entry is None else [other for other in entry.published if not self.is_deleted(name, other)]
        if entry is None or not left or (number is not None and number not in left):
            raise _not_found(model)
        return entry

    def is_deleted(self, adapter: str, version: int) -> bool:
        """Whether a version was deleted, alone or with its adapter."""
        return is_deleted(self.deleted, adapter, version)

    def find(self, model: str) -> Version | None:
        """The version that ``model`` means now, without a lease; None for the base.

        Raises:
            ModelNotFound: no such name is served.
            Unavailable: the adapter exists, but none of its versions could be loaded.
        """
        return None if model == self.base else self._version(model)

    def _version(self, model: str) -> Version:
        name, number = split_model_name(model)
        entry = self.entries.get(name)
        if entry is None:
            raise _unavailable(model) if self.blind else _not_found(model)
        if number is not None:
            if number not in entry.loaded or self.is_deleted(name, number):
                raise _not_found(model)
            return entry.loaded[number]
        if entry.serving is not None and self.is_deleted(name, entry.serving.number):
            raise _not_found(model)
        if entry.serving is None:
            if entry.wanted is None and entry.problem is None:
                raise _not_found(model)  # published, but never promoted
            raise _unavailable(name)
        return entry.serving


def _unavailable(name: str) -> Unavailable:
    return Unavailable(
        f"No version of '{name[:200]}' could be loaded; the operator finds the reason in /readyz.",
        retry_after=RETRY_SECONDS,
    )


def _not_found(model: str) -> ModelNotFound:
    return ModelNotFound(f"The model '{model[:200]}' does not exist or you do not have access to it.", param="model")
