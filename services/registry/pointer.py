"""Which version of an adapter is in service: one small file, replaced by rename."""

from datetime import UTC, datetime

import msgspec

from services.common.durable import replace_file
from services.registry.errors import RegistryError
from services.registry.files import read_regular
from services.registry.layout import Registry, model_name
from services.registry.lock import registry_lock

MAX_POINTER_BYTES = 64 * 1024


class Pointer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The version that an alias leads to.

    Attributes:
        version: in service.
        previous: in service before it; where ``rollback`` leads.
        moved: when the pointer moved, ISO 8601 in UTC.
    """

    version: int
    previous: int | None
    moved: str


def read_pointer(registry: Registry, adapter: str) -> Pointer | None:
    """The pointer of ``adapter``; None where nothing was promoted yet.

    Raises:
        RegistryError: the file is there but cannot be read.
    """
    file = registry.pointer_file(adapter)
    try:
        return msgspec.json.decode(read_regular(file, most=MAX_POINTER_BYTES), type=Pointer)
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RegistryError(f"{file}: {error}; `make promote ADAPTER={adapter} VERSION=N` writes it anew") from error
    except OSError as error:
        raise RegistryError(
            f"{file}: {error.strerror}; check the volume and its owner, or write the pointer anew with "
            f"`make promote ADAPTER={adapter} VERSION=N`"
        ) from error


def promote(registry: Registry, adapter: str, version: int) -> Pointer:
    """Put a published version in service; the one before stays as ``previous``. Promoting the current one changes nothing.

    Raises:
        NoSuchVersion: the version is not published.
        RegistryError: the pointer cannot be written.
    """
    with registry_lock(registry, "promote"):
        registry.require(adapter, version)
        try:
            now = read_pointer(registry, adapter)
        except RegistryError:
            now = None  # a damaged pointer is what a promotion mends
        if now is not None and now.version == version:
            return now
        return _move(registry, adapter, version, previous=now.version if now else None)


def rollback(registry: Registry, adapter: str) -> Pointer:
    """Put the previous version back in service; a second rollback returns to where the first began.

    Raises:
        RegistryError: there is nothing to return to, or the pointer cannot be written.
    """
    with registry_lock(registry, "rollback"):
        now = read_pointer(registry, adapter)
        if now is None or now.previous is None:
            raise RegistryError(f"{adapter}: no previous version to return to; `make versions` lists what is published")
        registry.require(adapter, now.previous)
        return _move(registry, adapter, now.previous, previous=now.version)


def _move(registry: Registry, adapter: str, version: int, *, previous: int | None) -> Pointer:
    pointer = Pointer(version=version, previous=previous, moved=datetime.now(UTC).isoformat(timespec="milliseconds"))
    file = registry.pointer_file(adapter)
    try:
        replace_file(file, msgspec.json.encode(pointer) + b"\n")
    except OSError as error:
        raise RegistryError(f"{file}: cannot move to {model_name(adapter, version)}: {error.strerror}") from error
    return pointer
