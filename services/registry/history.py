"""Every move of an adapter's pointer, one JSON line each: who or what put which version in service, and on what verdict.

Versions that their owner deleted have a line, too.
registry/<adapter>/history.jsonl is only ever appended to, under the registry's lock.
"""

import os
from datetime import UTC, datetime
from typing import Literal

import msgspec

from services.common.durable import PUBLIC_FILE, sync_folder
from services.common.killpoints import passing
from services.registry.errors import RegistryError
from services.registry.layout import Registry, check_adapter_name

HISTORY = "history.jsonl"

How = Literal["gate", "operator", "forced", "rollback", "canary", "canary ended", "deleted"]


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """One move of the pointer.

    Attributes:
        moved: when, ISO 8601 in UTC.
        version: in service from then on.
        before: in service until then.
        how: ``gate`` by its own verdict, ``operator`` by a promotion of a version that had passed, ``forced`` by a promotion
            of one that had not, ``rollback``; ``canary`` where only a share of the users got ``version`` instead of ``before``, and
            ``canary ended`` where they came back; ``deleted`` where ``version`` is no more, which moves nothing.
        reasons: what spoke against a forced version.
    """

    moved: str
    version: int
    before: int | None
    how: How
    reasons: list[str] = []


def append_move(registry: Registry, adapter: str, move: Move) -> None:
    """Add a line; a line cut short by a kill is ended first.

    Raises:
        OSError: the volume cannot be written.
    """
    file = registry.root / check_adapter_name(adapter) / HISTORY
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, PUBLIC_FILE)
    with os.fdopen(descriptor, "rb+", buffering=0) as stream:
        size = stream.seek(0, os.SEEK_END)
        cut = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        stream.write((b"\n" if cut else b"") + msgspec.json.encode(move) + b"\n")
        os.fsync(descriptor)
    passing("history: written")
    sync_folder(file.parent)  # the first line makes the file, and a kill may have come before its name was synced


def read_history(registry: Registry, adapter: str) -> list[Move]:
    """Every move, oldest first; lines that cannot be read are passed over.

    Raises:
        RegistryError: the file is there but cannot be opened.
    """
    file = registry.root / check_adapter_name(adapter) / HISTORY
    try:
        lines = file.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RegistryError(f"{file}: {error.strerror}; check the volume and its owner") from error
    moves = []
    for line in lines:
        try:
            moves.append(msgspec.json.decode(line, type=Move))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue
    return moves


def now() -> str:
    """This moment, as moves and pointers state it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
