"""Publish a version: every file synced, the manifest last, one rename. A kill at any step leaves no version or a whole one."""

import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from services.common.durable import PUBLIC_FILE, PUBLIC_FOLDER, remove_temporaries, sync_file, sync_folder, write_file
from services.common.killpoints import passing
from services.registry.check import ALLOWED_FILES, file_record
from services.registry.errors import RegistryError, unwritable
from services.registry.history import read_history
from services.registry.layout import MANIFEST, STAGING_PREFIX, Registry, check_adapter_name
from services.registry.lock import registry_lock
from services.registry.manifest import FORMAT, BaseReference, LoraFacts, Manifest, ProbePrompt, encode_manifest
from services.registry.pointer import read_pointer
from services.registry.reports import REPORTS


class Lineage(msgspec.Struct, frozen=True, kw_only=True):
    """What the trainer knows about a version; ``Manifest`` says what each means."""

    base: BaseReference
    lora: LoraFacts
    probe: list[ProbePrompt]
    dataset: dict[str, Any]
    recipe: dict[str, Any]
    packages: dict[str, str]
    metrics: dict[str, Any]


def require_writable(registry: Registry, adapter: str) -> None:
    """Find out before a training whether its end could be published; leaves nothing behind.

    Raises:
        RegistryError: the volume, or what is there of the adapter, cannot be written.
    """
    parent = registry.root / check_adapter_name(adapter)
    for folder in (registry.root, parent, parent / REPORTS):
        try:
            with tempfile.TemporaryFile(dir=folder):  # without a name where the file system can: no kill leaves it
                pass
        except FileNotFoundError:
            continue  # the first publish makes it
        except OSError as error:
            raise unwritable(folder, error) from error


@contextmanager
def staging(registry: Registry, adapter: str) -> Iterator[Path]:
    """A folder on the registry's volume to put a version's files in; gone at the end unless it was published.

    Leftovers of killed publishes are removed first: only one trainer runs at a time.

    Raises:
        RegistryError: the volume cannot be written.
    """
    parent = registry.root / check_adapter_name(adapter)
    try:
        parent.mkdir(parents=True, exist_ok=True)
        parent.chmod(PUBLIC_FOLDER)
        sync_folder(
            registry.root
        )  # the first publish makes the folder, and a kill may have come before its name was synced
        remove_leftovers(registry, adapter)
        folder = parent / f"{STAGING_PREFIX}{secrets.token_hex(6)}"
        folder.mkdir(mode=0o700)
        passing("publish: staged")
    except OSError as error:
        raise unwritable(parent, error) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_leftovers(registry: Registry, adapter: str) -> list[str]:
    """Delete what killed publishes, pointer moves and reports left behind; the names of what went."""
    parent = registry.root / check_adapter_name(adapter)
    gone = [*remove_temporaries(parent), *remove_temporaries(parent / REPORTS)]
    for entry in parent.iterdir() if parent.is_dir() else ():
        if entry.name.startswith(STAGING_PREFIX) and entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
            gone.append(entry.name)
    return gone


def publish(registry: Registry, adapter: str, staged: Path, lineage: Lineage) -> Manifest:
    """Turn a staged folder into the adapter's next version. It is not in service until it is promoted.

    Raises:
        RegistryError: a file that no version may hold, or the volume cannot be written.
    """
    files = sorted(staged.iterdir())
    if unknown := [
        file.name for file in files if file.name not in ALLOWED_FILES or not file.is_file() or file.is_symlink()
    ]:
        raise RegistryError(
            f"{adapter}: {', '.join(unknown)} cannot be part of a version; allowed: {', '.join(sorted(ALLOWED_FILES))}"
        )
    try:
        records = {}
        for file in files:
            file.chmod(PUBLIC_FILE)
            records[file.name] = file_record(file)
            sync_file(file)
            passing("publish: file synced")
        with registry_lock(registry, "publish"):
            pointer = read_pointer(registry, adapter)
            manifest = Manifest(
                format=FORMAT,
                adapter=adapter,
                version=_next_version(registry, adapter),
                created=datetime.now(UTC).isoformat(timespec="seconds"),
                files=records,
                parent=pointer.version if pointer else None,
                **{field: getattr(lineage, field) for field in lineage.__struct_fields__},
            )
            write_file(staged / MANIFEST, encode_manifest(manifest))
            passing("publish: manifest written")
            staged.chmod(PUBLIC_FOLDER)
            sync_folder(staged)
            folder = registry.folder(adapter, manifest.version)
            staged.rename(folder)
            passing("publish: renamed")
            sync_folder(folder.parent)
            passing("publish: synced")
    except OSError as error:
        raise unwritable(f"{registry.root / adapter}: cannot publish", error) from error
    return manifest


def _next_version(registry: Registry, adapter: str) -> int:
    """One more than any version that a folder, the pointer or the history names: a deleted version's number is never used again."""
    pointer = read_pointer(registry, adapter)
    seen = [int(entry.name) for entry in (registry.root / adapter).iterdir() if entry.name.isdigit()]
    seen += [move.version for move in read_history(registry, adapter)]
    if pointer is not None:
        seen += [pointer.version, pointer.previous or 0]
    return max(seen, default=0) + 1
