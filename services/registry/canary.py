"""Try a version on a share of the users: the pointer says which, and how many of a hundred."""

import msgspec

from services.registry.errors import RegistryError
from services.registry.history import Move, now
from services.registry.layout import Registry, model_name
from services.registry.lock import registry_lock
from services.registry.pointer import Canary, Pointer, move_pointer, read_pointer


def begin_canary(
    registry: Registry, adapter: str, version: int, percent: int, *, reasons: list[str] | None = None
) -> Pointer:
    """Send ``percent`` of the alias's users to ``version``; a canary that was there ends.

    Args:
        registry: where it is published.
        adapter: its name.
        version: published, and not the one in service.
        percent: of the users, 1 to 99.
        reasons: what speaks against it, where it is forced.

    Raises:
        NoSuchVersion: the version is not published.
        RegistryError: nothing serves yet, the version serves already, or the pointer cannot be written.
    """
    if not 1 <= percent <= 99:  # noqa: PLR2004 - per cent
        raise RegistryError(f"PERCENT={percent}: want 1 to 99; `make promote` gives a version to everyone")
    with registry_lock(registry, "canary"):
        registry.require(adapter, version)
        current = read_pointer(registry, adapter)
        if current is None:
            raise RegistryError(
                f"{adapter}: nothing serves yet, so there is nobody to share; `make promote` comes first"
            )
        if current.version == version:
            raise RegistryError(f"{model_name(adapter, version)} serves everyone already")
        moment = now()
        pointer = msgspec.structs.replace(current, canary=Canary(version=version, percent=percent, began=moment))
        move = Move(moved=moment, version=version, before=current.version, how="canary", reasons=reasons or [])
        return move_pointer(registry, adapter, pointer, move)


def end_canary(registry: Registry, adapter: str) -> Pointer:
    """Send every user of the alias to the version in service.

    Raises:
        RegistryError: there is no canary, or the pointer cannot be written.
    """
    with registry_lock(registry, "canary"):
        current = read_pointer(registry, adapter)
        if current is None or current.canary is None:
            raise RegistryError(f"{adapter}: no canary is under way")
        pointer = msgspec.structs.replace(current, canary=None)
        move = Move(moved=now(), version=current.version, before=current.canary.version, how="canary ended")
        return move_pointer(registry, adapter, pointer, move)
