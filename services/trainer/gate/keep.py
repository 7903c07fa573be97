"""Writing a report beside its version, for machines and for people."""

from pathlib import Path

import msgspec

from services.registry.errors import RegistryError
from services.registry.layout import Registry
from services.registry.manifest import read_manifest
from services.registry.reports import write_report
from services.trainer.gate.page import render_page
from services.trainer.gate.report import Report


def keep_report(registry: Registry, adapter: str, version: int, report: Report) -> None:
    """Write both files of a report.

    Raises:
        RegistryError: the version cannot be read, or the volume not written.
    """
    folder = registry.folder(adapter, version)
    page = render_page(report, read_manifest(folder), _loss_curve(folder))
    write_report(registry, adapter, version, msgspec.json.format(msgspec.json.encode(report), indent=1), page)


def _loss_curve(folder: Path) -> str:
    """The SVG that this project drew; a version from elsewhere has none."""
    try:
        return (folder / "loss.svg").read_text(encoding="utf-8")
    except FileNotFoundError:
        return "<p>none was published with it</p>"
    except (OSError, UnicodeDecodeError) as error:
        raise RegistryError(f"{folder}: loss.svg: {error}; `make verify` tells what else is damaged") from error
