"""Names and places on the registry's volume.

registry/<adapter>/<version>/      adapter_model.safetensors, adapter_config.json, rows.csv, loss.svg, manifest.json (last)
registry/<adapter>/current.json    which version is in service
registry/<adapter>/reports/        what the gate found of each version, <version>.json and <version>.html
registry/<adapter>/history.jsonl   every move of the pointer
"""

import errno
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from services.registry.errors import NoSuchVersion, RegistryError

MANIFEST = "manifest.json"
POINTER = "current.json"
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
STAGING_PREFIX = ".staging-"

_ADAPTER = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
_VERSION = re.compile(r"[1-9][0-9]{0,8}")


def check_adapter_name(name: str) -> str:
    """Return ``name`` if it can name an adapter: lower-case letters, digits, ``. _ -`` inside, at most 64.

    Raises:
        RegistryError: it cannot.
    """
    if not _ADAPTER.fullmatch(name) or ".." in name:
        raise RegistryError(
            f"adapter name {name!r}: want 1 to 64 of a-z, 0-9, '.', '_', '-', beginning and ending with a letter or digit"
        )
    return name


def model_name(adapter: str, version: int) -> str:
    """The name that pins one version, such as ``acme-support@7``."""
    return f"{adapter}@{version}"


def split_model_name(name: str) -> tuple[str, int | None]:
    """Take ``acme-support@7`` apart; a name without ``@`` and a well-formed version is an alias (None)."""
    if "@" not in name:
        return name, None
    adapter, _, version = name.rpartition("@")
    if _VERSION.fullmatch(version):
        return adapter, int(version)
    return name, None


@dataclass(frozen=True, slots=True)
class Registry:
    """The registry below one folder. Reading never writes."""

    root: Path

    def adapters(self) -> list[str]:
        """Every adapter that has a folder, in order of name.

        Raises:
            RegistryError: the folder is there but cannot be listed.
        """
        return [name for name in self._folders(self.root) if _ADAPTER.fullmatch(name)]

    def versions(self, adapter: str) -> list[int]:
        """The published versions of ``adapter``, oldest first: folders that hold a manifest, or that cannot be looked into.

        Raises:
            RegistryError: the adapter's folder is there but cannot be listed.
        """
        parent = self.root / check_adapter_name(adapter)
        numbers = (int(name) for name in self._folders(parent) if _VERSION.fullmatch(name))
        return sorted(number for number in numbers if _may_hold_manifest(f"{parent}/{number}/{MANIFEST}"))

    def folder(self, adapter: str, version: int) -> Path:
        """Where the version's files lie."""
        return self.root / check_adapter_name(adapter) / str(version)

    def pointer_file(self, adapter: str) -> Path:
        """The file that says which version is in service."""
        return self.root / check_adapter_name(adapter) / POINTER

    def require(self, adapter: str, version: int) -> Path:
        """The folder of a published version.

        Raises:
            NoSuchVersion: it is not published; the message lists those that are.
        """
        if version not in (published := self.versions(adapter)):
            listed = ", ".join(map(str, published)) or "none"
            raise NoSuchVersion(f"{model_name(adapter, version)} is not published; versions of {adapter}: {listed}")
        return self.folder(adapter, version)

    @staticmethod
    def _folders(parent: Path) -> list[str]:
        try:
            # A symbolic link is never followed: a folder of the registry lies in the registry.
            with os.scandir(parent) as entries:
                return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise RegistryError(
                f"{parent}: cannot be listed: {error.strerror}; check the volume and its owner"
            ) from error


def _may_hold_manifest(file: str) -> bool:
    try:
        return stat.S_ISREG(os.stat(file).st_mode)  # noqa: PTH116 - a server looks at each version at every move of a pointer
    except OSError as error:
        # Of another user, say: that is one version which is refused with the reason, and no fault of all the others.
        return error.errno not in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}
