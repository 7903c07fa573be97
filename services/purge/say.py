"""The findings in words, and what is left for the operator to do."""

from collections.abc import Iterator

from services.purge.findings import Findings, FoundRows
from services.registry.layout import split_model_name

_SHOWN_LINES = 20
_LEFT = (
    "What a purge cannot reach: backups and other copies, blocks that the disk has freed but not overwritten, requests that apps "
    "have stored (data/responses), and what a version has learnt: weights cannot forget, only versions can go."
)


def said(findings: Findings) -> Iterator[str]:
    """What was found, line by line."""
    if not findings.anything:
        yield "No row holds it."
    for number, count in enumerate(findings.needles, start=1):
        if len(findings.needles) > 1:
            yield f"text {number}: {count} row{_s(count)}"
    for found in (*findings.datasets, *findings.uploads):
        yield _rows(found)
    yield from (f"{name}: a copy of such rows; it goes whole" for name in findings.runs)
    yield from (f"{name}: quotes such rows" for name in findings.reports)
    for version in findings.versions:
        uses = [
            *([f"trained on {version.trained} of them"] if version.trained else []),
            *([f"judged by {version.held_out} of them"] if version.held_out else []),
        ]
        yield f"{version.model} was {' and '.join(uses)}{', and is in service' if version.served else ''}"
    yield from (f"cannot be told: {reason}" for reason in findings.unclear)
    yield from (f"not searched: {name} (no plain .jsonl file)" for name in findings.not_searched)


def next_steps(findings: Findings) -> Iterator[str]:
    """What to do now."""
    if findings.anything and not findings.removed:
        yield "Nothing was changed. With YES=1 all of this is removed; look at the lines first: a short text is in many words."
    learnt = [version.model for version in findings.versions if version.trained]
    if learnt and findings.removed:
        yield "Next: `make retrain`, so that a version serves that never saw these rows; then delete those that did:"
        for model in learnt:
            adapter, version = split_model_name(model)
            yield f"  make delete ADAPTER={adapter} VERSION={version}"
    if findings.removed:
        yield _LEFT


def _rows(found: FoundRows) -> str:
    lines = ", ".join(map(str, found.lines[:_SHOWN_LINES]))
    more = f" and {found.rows - _SHOWN_LINES} more" if found.rows > _SHOWN_LINES else ""
    owner = f" (uploaded by {found.owner})" if found.owner else ""
    return f"{found.file}{owner}: {found.rows} row{_s(found.rows)}, line{_s(found.rows)} {lines}{more}"


def _s(count: int) -> str:
    return "" if count == 1 else "s"
