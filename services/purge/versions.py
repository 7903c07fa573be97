"""Which versions learnt a row: the registry keeps the hash of each that a version was trained on or judged by."""

from collections import Counter
from collections.abc import Collection

from services.purge.findings import Findings, FoundVersion
from services.registry.errors import RegistryError
from services.registry.layout import Registry, model_name
from services.registry.pointer import read_pointer
from services.registry.rows import read_rows


def find_versions(registry: Registry, hashes: Collection[str], findings: Findings) -> None:
    """Add to the findings every version of these rows, and those of which nothing can be said.

    Raises:
        RegistryError: the registry cannot be listed.
    """
    for adapter in registry.adapters():
        pointer = read_pointer(registry, adapter)
        for version in registry.versions(adapter):
            try:
                rows = read_rows(registry.folder(adapter, version))
            except RegistryError as error:
                findings.unclear.append(f"{model_name(adapter, version)}: {error}")
                continue
            uses = Counter(row.use for row in rows if row.sha256 in hashes)
            if uses["train"] or uses["holdout"]:
                findings.versions.append(
                    FoundVersion(
                        model=model_name(adapter, version),
                        trained=uses["train"],
                        held_out=uses["holdout"],
                        served=pointer is not None and pointer.version == version,
                    )
                )


def held_out_places(registry: Registry, adapter: str, version: int, hashes: Collection[str]) -> set[str]:
    """``file:line`` of those of these rows that a version was judged by; empty where it does not say."""
    try:
        rows = read_rows(registry.folder(adapter, version))
    except RegistryError:
        return set()
    return {f"{row.file}:{row.line}" for row in rows if row.use == "holdout" and row.sha256 in hashes}
