"""The operator's view of the registry: list versions, choose the one to serve, go back, recheck every hash."""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from services.common.consoles import unbroken
from services.common.paths import DataPaths
from services.registry.canary import begin_canary, end_canary
from services.registry.check import verify_version
from services.registry.errors import RegistryError
from services.registry.history import How
from services.registry.layout import Registry, model_name
from services.registry.lineage import lineage_of, print_lineage
from services.registry.manifest import read_manifest
from services.registry.pointer import Pointer, promote, read_pointer, rollback
from services.registry.reports import objections, read_judgement, report_file
from services.registry.rows import read_rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; 0 when it did what it says, 1 when it could not, 2 for a wrong call."""
    options = _parser().parse_args(arguments)
    registry = Registry(DataPaths.from_environment().registry)
    try:
        code: int = options.run(registry, options)
    except RegistryError as error:
        print(f"registry: {error}", file=sys.stderr)
        return 1
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m services.registry", description=__doc__)
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    for name, run, summary in (
        ("versions", _versions, "list every version, which one is to serve and which one was before"),
        ("promote", _promote, "make a version the one to serve"),
        (
            "canary",
            _canary,
            "give a share of the users a version that the gate passed; with --percent 0 nobody any more",
        ),
        ("rollback", _rollback, "make the version before the one to serve again"),
        ("report", _report, "say what the gate found of a version"),
        ("lineage", _lineage, "say what a version was made of and how it came into service"),
        ("verify", _verify, "recheck every file of every version against its manifest"),
    ):
        verb = verbs.add_parser(name, help=summary, description=summary)
        verb.set_defaults(run=run, verb=name)
        verb.add_argument("--adapter", help="the adapter's name; may be left out where there is only one")
        verb.add_argument("--json", action="store_true", help="print JSON for machines")
        if name in {"promote", "report", "lineage"}:
            verb.add_argument("--version", type=int, required=True, help="its number, as `versions` lists it")
        if name == "lineage":
            verb.add_argument("--rows", action="store_true", help="list every row that was read: hash, use, file:line")
        if name == "canary":
            verb.add_argument("--version", type=int, help="its number; not needed to end a canary")
            verb.add_argument("--percent", type=int, required=True, help="of the users, 1 to 99; 0 ends it")
        if name in {"promote", "canary"}:
            verb.add_argument(
                "--force", action="store_true", help="although the gate did not pass it; this is recorded"
            )
    return parser


def _versions(registry: Registry, options: argparse.Namespace) -> int:
    rows = [row for adapter in _adapters(registry, options.adapter) for row in _describe(registry, adapter)]
    if options.json:
        _print_json(rows)
        return 0
    if not rows:
        print("no version is published yet; `make retrain` makes the first")
        return 0
    columns = ("adapter", "version", "state", "gate", "created", "base", "rank", "rows", "loss")
    table = Table(*columns, box=None)
    for row in rows:
        table.add_row(*(str(row[column]) for column in columns))
    unbroken(Console()).print(table)
    return 0


def _describe(registry: Registry, adapter: str) -> list[dict[str, Any]]:
    pointer = read_pointer(registry, adapter)
    rows = []
    for version in registry.versions(adapter):
        row: dict[str, Any] = {"adapter": adapter, "version": version, "state": _state(pointer, version)}
        row["gate"] = _gate(registry, adapter, version)
        try:
            manifest = read_manifest(registry.folder(adapter, version))
        except RegistryError as error:
            row |= {"state": f"damaged: {error}", "created": "", "base": "", "rank": "", "rows": "", "loss": ""}
        else:
            loss = manifest.metrics.get("train_loss")
            row |= {
                "created": manifest.created,
                "base": manifest.base.name,
                "rank": manifest.lora.rank,
                "rows": manifest.metrics.get("train_rows", ""),
                "loss": round(loss, 4) if isinstance(loss, float) else "",
            }
        rows.append(row)
    return rows


def _gate(registry: Registry, adapter: str, version: int) -> str:
    try:
        found = read_judgement(registry, adapter, version)
    except RegistryError:
        return "unreadable"
    return "not judged" if found is None else "passed" if found.passed else "refused"


def _state(pointer: Pointer | None, version: int) -> str:
    if pointer is None:
        return "candidate"
    if pointer.canary is not None and pointer.canary.version == version:
        return f"canary {pointer.canary.percent}%"
    return {pointer.version: "current", pointer.previous: "previous"}.get(
        version, "candidate" if version > pointer.version else "kept"
    )


def _promote(registry: Registry, options: argparse.Namespace) -> int:
    adapter = _only_adapter(registry, options.adapter)
    against = _against(registry, adapter, options)
    how: How = "forced" if against else "operator"
    return _report_move(
        adapter, promote(registry, adapter, options.version, how=how, reasons=against), as_json=options.json
    )


def _canary(registry: Registry, options: argparse.Namespace) -> int:
    adapter = _only_adapter(registry, options.adapter)
    if options.percent == 0:
        return _report_move(adapter, end_canary(registry, adapter), as_json=options.json)
    if options.version is None:
        raise RegistryError("which version? --version N, one that `versions` lists")
    against = _against(registry, adapter, options)
    pointer = begin_canary(registry, adapter, options.version, options.percent, reasons=against)
    if options.json:
        return _report_move(adapter, pointer, as_json=True)
    print(
        f"{options.percent}% of the users of {adapter} are to get {model_name(adapter, options.version)}; "
        "a running server follows within seconds, and ends it by itself where it fails (`make status`)"
    )
    return 0


def _against(registry: Registry, adapter: str, options: argparse.Namespace) -> list[str]:
    """What speaks against serving a version that is whole.

    Raises:
        RegistryError: something does, and it is not forced; or the version is damaged or not published.
    """
    registry.require(adapter, options.version)
    verify_version(registry, adapter, options.version)
    against = objections(registry, adapter, options.version)
    if against and not options.force:
        raise RegistryError(
            f"{model_name(adapter, options.version)} did not pass the gate: {'; '.join(against)}. "
            f"`make {options.verb} VERSION={options.version} ... FORCE=1` does it all the same, and records that"
        )
    return against


def _rollback(registry: Registry, options: argparse.Namespace) -> int:
    adapter = _only_adapter(registry, options.adapter)
    return _report_move(adapter, rollback(registry, adapter), as_json=options.json)


def _report(registry: Registry, options: argparse.Namespace) -> int:
    adapter = _only_adapter(registry, options.adapter)
    registry.require(adapter, options.version)
    found = read_judgement(registry, adapter, options.version)
    if found is None:
        raise RegistryError(
            f"{model_name(adapter, options.version)} was not judged; `make judge VERSION={options.version}`"
        )
    if options.json:
        print(report_file(registry, adapter, options.version, "json").read_text(encoding="utf-8"))
        return 0
    print(f"{found.model}: {'passed' if found.passed else 'refused'}, judged {found.judged}")
    for reason in found.reasons:
        print(f"  - {reason}")
    page = report_file(registry, adapter, options.version, "html").relative_to(registry.root.parent)
    print(f"the whole report, for a browser: {page} in the data folder")
    return 0


def _lineage(registry: Registry, options: argparse.Namespace) -> int:
    adapter = _only_adapter(registry, options.adapter)
    if options.rows:
        for row in read_rows(registry.require(adapter, options.version)):
            print(f"{row.sha256}  {row.use}  {row.file}:{row.line}")
        return 0
    lineage = lineage_of(registry, adapter, options.version)
    _print_json(lineage) if options.json else print_lineage(lineage, Console())
    return 0


def _report_move(adapter: str, pointer: Pointer, *, as_json: bool) -> int:
    if as_json:
        _print_json({"adapter": adapter, **msgspec.to_builtins(pointer)})
    else:
        before = f" (before: {pointer.previous})" if pointer.previous else ""
        # Only the server can say that a version serves: it checks and probes before it routes.
        print(
            f"{model_name(adapter, pointer.version)} is the version to serve{before}; "
            "a running server follows within seconds (`make status`)"
        )
    return 0


def _verify(registry: Registry, options: argparse.Namespace) -> int:
    results: list[dict[str, Any]] = []
    for adapter in _adapters(registry, options.adapter):
        for version in registry.versions(adapter):
            try:
                verify_version(registry, adapter, version)
            except RegistryError as error:
                results.append({"adapter": adapter, "version": version, "whole": False, "reason": str(error)})
            else:
                results.append({"adapter": adapter, "version": version, "whole": True, "reason": ""})
    if options.json:
        _print_json(results)
    for row in () if options.json else results:
        print(f"{model_name(row['adapter'], row['version'])}: {'whole' if row['whole'] else row['reason']}")
    return 0 if all(row["whole"] for row in results) else 1


def _adapters(registry: Registry, named: str | None) -> list[str]:
    known = registry.adapters()
    if named is None:
        return known
    if named not in known:
        raise RegistryError(f"no adapter {named!r}; published: {', '.join(known) or 'none'}")
    return [named]


def _only_adapter(registry: Registry, named: str | None) -> str:
    adapters = _adapters(registry, named)
    if len(adapters) != 1:
        raise RegistryError(f"which adapter? --adapter NAME, one of: {', '.join(adapters) or 'none published yet'}")
    return adapters[0]


def _print_json(value: Any) -> None:
    print(msgspec.json.encode(value).decode())


if __name__ == "__main__":
    sys.exit(main())
