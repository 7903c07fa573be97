"""What a version was made of, what the gate found, and how it came into service: one answer for an auditor."""

from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from services.common.consoles import unbroken
from services.registry.history import read_history
from services.registry.layout import Registry, model_name
from services.registry.manifest import read_manifest
from services.registry.reports import manifest_hash, read_judgement


def lineage_of(registry: Registry, adapter: str, version: int) -> dict[str, Any]:
    """Everything that is written down about a version, but for the probe's numbers and the rows' hashes.

    Raises:
        RegistryError: the version is not published, or cannot be read.
    """
    manifest = msgspec.to_builtins(read_manifest(registry.require(adapter, version)))
    del manifest["probe"]
    judged = read_judgement(registry, adapter, version)
    return {
        "model": model_name(adapter, version),
        "manifest_sha256": manifest_hash(registry, adapter, version),
        "manifest": manifest,
        "judgement": msgspec.to_builtins(judged) if judged else None,
        "moves": [
            msgspec.to_builtins(move)
            for move in read_history(registry, adapter)
            if version in (move.version, move.before)
        ],
    }


def print_lineage(lineage: dict[str, Any], console: Console) -> None:
    """Print it for people; elsewhere than on a terminal no line is broken."""
    manifest, judged = lineage["manifest"], lineage["judgement"]
    dataset = manifest["dataset"]
    table = Table(box=None, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    facts = [
        (
            "version",
            f"{lineage['model']}, published {manifest['created']}, after version {manifest['parent'] or 'none'}",
        ),
        ("manifest", lineage["manifest_sha256"]),
        ("base model", f"{manifest['base']['name']}, {manifest['base']['fingerprint']}"),
        ("chat template", manifest["base"]["chat_template_sha256"]),
        *(
            (f"file {name}", f"{record['sha256']}, {record['size']} bytes")
            for name, record in manifest["files"].items()
        ),
        *((f"rows {file['file']}", _file(file)) for file in dataset.get("files", [])),
        *((f"recipe {table_name}", _pairs(values)) for table_name, values in manifest["recipe"].items()),
        ("packages", _pairs(manifest["packages"])),
        ("metrics", _pairs(manifest["metrics"])),
        ("verdict", _verdict(judged)),
        *(("moved", _move(move)) for move in lineage["moves"]),
    ]
    for name, value in facts:
        table.add_row(Text(name, style="bold"), Text(value))
    unbroken(console).print(table)


def _file(file: dict[str, Any]) -> str:
    counts = ("rows", "train", "holdout", "exact_duplicates", "near_duplicates", "too_long")
    return f"{file['sha256']}, " + ", ".join(
        f"{file[name]} {name.replace('_', ' ')}" for name in counts if name in file
    )


def _pairs(values: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())


def _verdict(judged: dict[str, Any] | None) -> str:
    if judged is None:
        return "not judged"
    return (
        f"passed, {judged['judged']}"
        if judged["passed"]
        else f"refused, {judged['judged']}: {'; '.join(judged['reasons'])}"
    )


def _move(move: dict[str, Any]) -> str:
    if move["how"] == "deleted":
        return f"{move['moved']}: {move['version']} deleted"
    against = f", although {'; '.join(move['reasons'])}" if move["reasons"] else ""
    return f"{move['moved']}: {move['before'] or 'nothing'} to {move['version']}, by {move['how']}{against}"
