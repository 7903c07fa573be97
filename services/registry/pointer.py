"""Which version of an adapter is in service: one small file, replaced by rename."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from services.common.durable import replace_file, sync_folder
from services.common.killpoints import passing
from services.registry.errors import RegistryError, unwritable
from services.registry.files import read_regular
from services.registry.history import How, Move, append_move, now
from services.registry.layout import Registry, model_name
from services.registry.lock import registry_lock

MAX_POINTER_BYTES = 64 * 1024


class Canary(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A version that a share of the alias's users get.

    Attributes:
        version: theirs.
        percent: of the users, 1 to 99.
        began: when, ISO 8601 in UTC; tells one canary of a version from the next.
    """

    version: int
    percent: int
    began: str


class Pointer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The version that an alias leads to.

    Attributes:
        version: in service.
        previous: in service before it; where ``rollback`` leads.
        moved: when the pointer moved, ISO 8601 in UTC.
        canary: what some users get instead.
    """

    version: int
    previous: int | None
    moved: str
    canary: Canary | None = None


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
        if not _can_be_seen(file):  # nor could a promotion write there
            raise RegistryError(f"{file.parent}: {error.strerror}; check the volume and its owner") from error
        raise RegistryError(
            f"{file}: {error.strerror}; check the volume and its owner, or write the pointer anew with "
            f"`make promote ADAPTER={adapter} VERSION=N`"
        ) from error


def _can_be_seen(file: Path) -> bool:
    try:
        file.lstat()
    except OSError:
        return False
    return True


def encode_pointer(pointer: Pointer) -> bytes:
    """The pointer's file."""
    return msgspec.json.encode(pointer) + b"\n"


def promote(
    registry: Registry, adapter: str, version: int, *, how: How = "operator", reasons: Sequence[str] = ()
) -> Pointer:
    """Put a published version in service; the one before stays as ``previous``. Promoting the current one changes nothing.

    Args:
        registry: where it is published.
        adapter: its name.
        version: its number.
        how: for the history.
        reasons: what spoke against it, where it is forced.

    Raises:
        NoSuchVersion: the version is not published.
        RegistryError: the pointer cannot be written.
    """
    with registry_lock(registry, "promote"):
        registry.require(adapter, version)
        try:
            current = read_pointer(registry, adapter)
        except RegistryError:
            current = None  # a damaged pointer is what a promotion mends
        if current is not None and current.version == version:
            return current
        before = current.version if current else None
        move = Move(moved=now(), version=version, before=before, how=how, reasons=list(reasons))
        return _move(registry, adapter, move)


def rollback(registry: Registry, adapter: str) -> Pointer:
    """Put the previous version back in service; a second rollback returns to where the first began.

    Raises:
        RegistryError: there is nothing to return to, or the pointer cannot be written.
    """
    with registry_lock(registry, "rollback"):
        current = read_pointer(registry, adapter)
        if current is None or current.previous is None:
            raise RegistryError(f"{adapter}: no previous version to return to; `make versions` lists what is published")
        registry.require(adapter, current.previous)
        move = Move(moved=now(), version=current.previous, before=current.version, how="rollback")
        return _move(registry, adapter, move)


def _move(registry: Registry, adapter: str, move: Move) -> Pointer:
    """Put ``move.version`` in service; a canary ends with it."""
    pointer = Pointer(version=move.version, previous=move.before, moved=move.moved)
    return move_pointer(registry, adapter, pointer, move)


def move_pointer(registry: Registry, adapter: str, pointer: Pointer, move: Move) -> Pointer:
    """Write the pointer, then its move: a kill in between leaves the move without its line, never a line without its move.

    The caller holds the registry's lock.

    Raises:
        RegistryError: the volume cannot be written.
    """
    file = registry.pointer_file(adapter)
    try:
        sync_folder(file.parent)  # a publish that was killed may have left the version's name unsynced
        replace_file(file, encode_pointer(pointer))
        passing("pointer: moved")
        append_move(registry, adapter, move)
    except OSError as error:
        raise unwritable(f"{file}: cannot move to {model_name(adapter, move.version)}", error) from error
    return pointer
