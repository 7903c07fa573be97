"""Versions that their owner gives up: out of service first where they serve, then out of sight, then off the disk.

Reports and history stay, and so does the number: it is never given to another version.
"""

from collections.abc import Sequence

from services.common.durable import replace_file, sync_folder
from services.registry.errors import RegistryError
from services.registry.history import Move, append_move, now
from services.registry.layout import Registry, model_name
from services.registry.lock import registry_lock
from services.registry.pointer import Pointer, encode_pointer, read_pointer
from services.registry.retention import remove_version


def delete_version(registry: Registry, adapter: str, version: int) -> bool:
    """Delete one version; a rollback leads there no longer, and a canary of it ends.

    Returns:
        whether it was there.

    Raises:
        RegistryError: it is in service, or the volume cannot be written.
    """
    with registry_lock(registry, "delete"):
        pointer = read_pointer(registry, adapter)
        if pointer is not None and pointer.version == version:
            raise RegistryError(
                f"{model_name(adapter, version)} is in service; `make promote` another version, or delete all of {adapter}"
            )
        if version not in registry.versions(adapter):
            return False
        if pointer is not None:
            _forget(registry, adapter, pointer, version)
        _delete(registry, adapter, [version])
        return True


def delete_adapter(registry: Registry, adapter: str, *, newest: int) -> list[int]:
    """Delete an adapter's versions up to ``newest``, and take it out of service where one of them serves.

    Returns:
        the numbers that went.

    Raises:
        RegistryError: the volume cannot be written; what went until then is gone.
    """
    with registry_lock(registry, "delete"):
        pointer = read_pointer(registry, adapter)
        versions = [version for version in registry.versions(adapter) if version <= newest]
        if pointer is not None and pointer.version <= newest:
            _take_out_of_service(registry, adapter)
        elif pointer is not None:
            for version in versions:
                pointer = _forget(registry, adapter, pointer, version)
        _delete(registry, adapter, versions)
        return versions


def _take_out_of_service(registry: Registry, adapter: str) -> None:
    file = registry.pointer_file(adapter)
    try:
        file.unlink()
        sync_folder(file.parent)
    except OSError as error:
        raise RegistryError(f"{file}: cannot be deleted: {error.strerror}; check the volume") from error


def _forget(registry: Registry, adapter: str, pointer: Pointer, version: int) -> Pointer:
    """Let the pointer name ``version`` no more; the pointer as it then is."""
    changed = Pointer(
        version=pointer.version,
        previous=None if pointer.previous == version else pointer.previous,
        moved=pointer.moved,
        canary=None if pointer.canary and pointer.canary.version == version else pointer.canary,
    )
    if changed == pointer:
        return pointer
    file = registry.pointer_file(adapter)
    try:
        replace_file(file, encode_pointer(changed))
    except OSError as error:
        raise RegistryError(f"{file}: cannot be written: {error.strerror}; check the volume") from error
    return changed


def _delete(registry: Registry, adapter: str, versions: Sequence[int]) -> None:
    """Write each deletion down before it happens: a kill in between leaves a line too many, never a number that is free again."""
    for version in versions:
        try:
            append_move(registry, adapter, Move(moved=now(), version=version, before=version, how="deleted"))
        except OSError as error:
            raise RegistryError(f"{model_name(adapter, version)}: {error.strerror}; check the volume") from error
        remove_version(registry, adapter, version)
