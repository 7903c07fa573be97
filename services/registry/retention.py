"""Old versions go, so that the volume does not fill; never one that serves, could serve at once, or is the newest."""

import secrets
import shutil
from collections.abc import Collection

from services.common.durable import sync_folder
from services.common.killpoints import passing
from services.registry.errors import unwritable
from services.registry.layout import STAGING_PREFIX, Registry
from services.registry.lock import registry_lock
from services.registry.pointer import read_pointer


def delete_old(registry: Registry, adapter: str, *, keep: int, in_use: Collection[int]) -> list[int]:
    """Delete all but the newest ``keep`` versions of ``adapter``; their reports and the history stay.

    Kept whatever their age: the version in service, the one before it (where a rollback leads), a canary, and what a server has loaded.

    Args:
        registry: where they are published.
        adapter: its name.
        keep: how many of the newest stay, at least one: a number is never given twice.
        in_use: versions that a server has loaded.

    Returns:
        the numbers that went.

    Raises:
        RegistryError: the pointer cannot be read, or the volume cannot be written; what went until then is gone.
    """
    with registry_lock(registry, "collect"):
        pointer = read_pointer(registry, adapter)
        held = set(in_use)
        if pointer is not None:
            held |= {pointer.version, pointer.previous or 0, pointer.canary.version if pointer.canary else 0}
        versions = registry.versions(adapter)
        old = [version for version in versions[: -max(keep, 1)] if version not in held]
        for version in old:
            remove_version(registry, adapter, version)
        return old


def remove_version(registry: Registry, adapter: str, version: int) -> None:
    """Delete a version's folder: out of sight at once, then off the disk; a kill in between leaves what the next publish removes.

    The caller holds the registry's lock.

    Raises:
        RegistryError: the volume cannot be written.
    """
    folder = registry.folder(adapter, version)
    try:
        doomed = folder.with_name(f"{STAGING_PREFIX}gone-{version}-{secrets.token_hex(4)}")
        folder.rename(doomed)
        passing("deletion: out of sight")
        sync_folder(doomed.parent)
        shutil.rmtree(doomed)
        passing("deletion: done")
    except OSError as error:
        raise unwritable(f"{folder}: cannot be deleted", error) from error
