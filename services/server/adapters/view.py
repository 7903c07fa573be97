"""The registry as the server sees it: what is published and promoted, less what was deleted."""

from collections.abc import Callable, Sequence

import msgspec

from services.jobs.deletions import Deletion, is_deleted
from services.registry.errors import RegistryError
from services.registry.layout import Registry
from services.registry.pointer import Pointer, read_pointer


class SeenAdapter(msgspec.Struct, frozen=True):
    """One adapter, at one moment.

    Attributes:
        pointer: what is in service; None where nothing is.
        versions: oldest first.
        problem: why it cannot be read; the other two say nothing then.
    """

    pointer: Pointer | None
    versions: list[int]
    problem: str | None = None


class Seen(msgspec.Struct, frozen=True):
    """The registry, at one moment.

    Attributes:
        adapters: by name.
        deleted: every deletion that there ever was: a version's number is never given again.
    """

    adapters: dict[str, SeenAdapter]
    deleted: list[Deletion]


class RegistryView:
    """Looks at the registry.

    Args:
        registry: read only.
        deletions: tells every deletion.
    """

    def __init__(self, registry: Registry, deletions: Callable[[], list[Deletion]]) -> None:
        self.registry = registry
        self._deletions = deletions

    def look(self) -> Seen:
        """Everything, read from disk.

        Raises:
            RegistryError: the registry cannot be listed.
            JobsError: the deletions cannot be read.
        """
        deleted = self._deletions()
        return Seen({name: self._adapter(name, deleted) for name in self.registry.adapters()}, deleted)

    def _adapter(self, name: str, deleted: Sequence[Deletion]) -> SeenAdapter:
        try:
            pointer = read_pointer(self.registry, name)
            versions = self.registry.versions(name)
        except RegistryError as error:
            return SeenAdapter(None, [], str(error))
        return SeenAdapter(
            pointer=None if pointer is None else _kept(name, pointer, deleted),
            versions=[number for number in versions if not is_deleted(deleted, name, number)],
        )


def _kept(name: str, pointer: Pointer, deleted: Sequence[Deletion]) -> Pointer | None:
    """The pointer without the versions that were deleted; None where that was the one in service."""

    def gone(number: int | None) -> bool:
        return number is not None and is_deleted(deleted, name, number)

    if gone(pointer.version):
        return None
    return Pointer(
        version=pointer.version,
        previous=None if gone(pointer.previous) else pointer.previous,
        moved=pointer.moved,
        canary=None if pointer.canary is None or gone(pointer.canary.version) else pointer.canary,
    )
