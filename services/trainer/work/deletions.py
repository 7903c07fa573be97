"""Deletes what its owner gave up: an app through the server, which may not write to the registry, or the operator here."""

import structlog

from services.jobs.deletions import Deletion, Deletions, is_deleted
from services.jobs.records import OPERATOR
from services.registry.delete import delete_adapter, delete_version
from services.registry.errors import RegistryError
from services.registry.layout import Registry, model_name
from services.registry.pointer import read_pointer
from services.registry.publish import remove_leftovers


def give_up(deletions: Deletions, registry: Registry, adapter: str, version: int | None) -> str:
    """Write down that the operator gives up a version, or an adapter with all its versions (None).

    Returns:
        its name.

    Raises:
        RegistryError: it is not there, or is in service and to go alone.
        DatabaseUnusable: the queue cannot be written.
    """
    if version is not None:
        registry.require(adapter, version)
    published = registry.versions(adapter)
    if not published:
        raise RegistryError(f"{adapter} has no version; adapters: {', '.join(registry.adapters()) or 'none'}")
    if version is None:
        deletions.add(adapter, None, newest=published[-1], owner=OPERATOR)
        return adapter
    pointer = read_pointer(registry, adapter)
    if pointer is not None and pointer.version == version:
        raise RegistryError(
            f"{model_name(adapter, version)} is in service; `make promote` another version first, or delete all of {adapter} with VERSION=all"
        )
    if not is_deleted(deletions.all(), adapter, version):
        deletions.add(adapter, version, newest=published[-1], owner=OPERATOR)
    return model_name(adapter, version)


class Deleter:
    """Carries deletions out; called while no job is under way."""

    def __init__(self, deletions: Deletions, registry: Registry) -> None:
        """Read ``deletions``, delete from ``registry``."""
        self._deletions = deletions
        self._registry = registry
        self._failed: dict[int, str] = {}

    def __call__(self) -> None:
        """Carry out what is pending; what cannot be done, such as a version that serves by now, is tried again the next time.

        Raises:
            DatabaseUnusable: the queue cannot be read or written.
        """
        for deletion in self._deletions.all(pending=True):
            try:
                gone = self._delete(deletion)
            except RegistryError as error:
                if self._failed.get(deletion.number) != str(error):
                    self._failed[deletion.number] = str(error)
                    structlog.get_logger().error("a model cannot be deleted yet", reason=str(error))
                continue
            self._deletions.done(deletion.number)
            structlog.get_logger().info("model deleted", adapter=deletion.adapter, versions=gone)

    def _delete(self, deletion: Deletion) -> list[int]:
        if deletion.version is None:
            gone = delete_adapter(self._registry, deletion.adapter, newest=deletion.newest)
        else:
            found = delete_version(self._registry, deletion.adapter, deletion.version)
            gone = [deletion.version] if found else []
        remove_leftovers(self._registry, deletion.adapter)  # of a deletion that was killed
        return gone
