"""Deletes what owners gave up through the server, which may not write to the registry."""

import structlog

from services.jobs.deletions import Deletion, Deletions
from services.registry.delete import delete_adapter, delete_version
from services.registry.errors import RegistryError
from services.registry.layout import Registry
from services.registry.publish import remove_leftovers


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
