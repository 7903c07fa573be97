"""What the gate found of a version: beside the versions, because a version's folder never changes once it is published.

registry/<adapter>/reports/<version>.json   for machines; ``Judgement`` is the part that a promotion needs
registry/<adapter>/reports/<version>.html   for people
"""

import hashlib
from pathlib import Path

import msgspec

from services.common.durable import PUBLIC_FOLDER, replace_file
from services.registry.errors import RegistryError, unwritable
from services.registry.files import read_regular
from services.registry.layout import MANIFEST, Registry, check_adapter_name, model_name

REPORTS = "reports"
MAX_REPORT_BYTES = 64 * 1024 * 1024


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict in a report.

    Attributes:
        model: the version judged, such as ``acme@7``.
        manifest_sha256: of its manifest, which holds the hash of every file: a report speaks of these bytes only.
        judged: when, ISO 8601 in UTC.
        passed: it is better than what served.
        reasons: one sentence for each rule that it broke, or why no verdict was reached.
    """

    model: str
    manifest_sha256: str
    judged: str
    passed: bool
    reasons: list[str]


def report_file(registry: Registry, adapter: str, version: int, kind: str) -> Path:
    """Where a version's report lies; ``kind`` is ``json`` or ``html``."""
    return registry.root / check_adapter_name(adapter) / REPORTS / f"{version}.{kind}"


def manifest_hash(registry: Registry, adapter: str, version: int) -> str:
    """SHA-256 of a version's manifest.

    Raises:
        RegistryError: it cannot be read.
    """
    file = registry.folder(adapter, version) / MANIFEST
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise RegistryError(f"{model_name(adapter, version)}: {MANIFEST}: {error.strerror}") from error


def write_report(registry: Registry, adapter: str, version: int, report: bytes, page: str) -> Path:
    """Write both files of a report, each at once; a later judgement replaces an earlier one.

    Returns:
        the page's path.

    Raises:
        RegistryError: the volume cannot be written.
    """
    page_file = report_file(registry, adapter, version, "html")
    try:
        page_file.parent.mkdir(exist_ok=True)
        page_file.parent.chmod(PUBLIC_FOLDER)
        replace_file(page_file, page.encode())
        replace_file(report_file(registry, adapter, version, "json"), report)  # last: it is what a promotion believes
    except OSError as error:
        raise unwritable(page_file.parent, error) from error
    return page_file


def read_judgement(registry: Registry, adapter: str, version: int) -> Judgement | None:
    """The verdict on the version as it is now; None where it was not judged, or its report speaks of other bytes.

    Raises:
        RegistryError: there is a report, but it cannot be read.
    """
    file = report_file(registry, adapter, version, "json")
    try:
        found = msgspec.json.decode(read_regular(file, most=MAX_REPORT_BYTES), type=Judgement)
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OSError) as error:
        raise RegistryError(f"{file}: {error}; `make judge VERSION={version}` writes it anew") from error
    return found if found.manifest_sha256 == manifest_hash(registry, adapter, version) else None


def objections(registry: Registry, adapter: str, version: int) -> list[str]:
    """What speaks against putting a version in service: the gate's reasons, or that it was never judged; empty if it passed.

    Raises:
        RegistryError: its report cannot be read.
    """
    found = read_judgement(registry, adapter, version)
    if found is None:
        return [f"it was not judged (`make judge VERSION={version}`)"]
    return [] if found.passed else found.reasons
