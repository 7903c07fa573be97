"""What ``check-data`` found, for people and machines; it goes into the manifest, so it holds no content."""

import msgspec
from rich.console import Console
from rich.table import Table

from services.trainer.data.rows import Format

_SHOWN_CONFLICTS = 10


class FileReport(msgspec.Struct, kw_only=True):
    """One file's rows: read, kept for training or holdout, and dropped, by reason."""

    file: str
    sha256: str
    size: int
    format: Format | None = None
    rows: int = 0
    exact_duplicates: int = 0
    near_duplicates: int = 0
    too_long: int = 0
    train: int = 0
    holdout: int = 0


class DataReport(msgspec.Struct, frozen=True, kw_only=True):
    """All files together.

    Attributes:
        tokens: of the rows that are trained, in one epoch.
        supervised_tokens: those of them that are learnt.
        length_percentiles: tokens per trained row: the shortest, 50%, 90%, 99%, the longest.
        conflicts: ``file:line`` of rows whose question an earlier row answers differently.
        max_length: the limit in tokens that was in force.
    """

    files: list[FileReport]
    rows: int
    train: int
    holdout: int
    exact_duplicates: int
    near_duplicates: int
    too_long: int
    tokens: int
    supervised_tokens: int
    length_percentiles: list[int]
    conflicts: list[str]
    max_length: int


def print_report(report: DataReport, console: Console) -> None:
    """Print the report as a table and a few sentences."""
    table = Table("file", "format", box=None, title=None)
    for name in ("rows", "exact dup.", "near dup.", "too long", "train", "holdout"):
        table.add_column(name, justify="right")
    for file in report.files:
        counts = (file.rows, file.exact_duplicates, file.near_duplicates, file.too_long, file.train, file.holdout)
        table.add_row(file.file, file.format or "empty", *(f"{count:,}" for count in counts))
    if len(report.files) > 1:
        total = (
            report.rows,
            report.exact_duplicates,
            report.near_duplicates,
            report.too_long,
            report.train,
            report.holdout,
        )
        table.add_row("all", "", *(f"{count:,}" for count in total), style="bold")
    console.print(table)
    share = report.supervised_tokens / max(report.tokens, 1)
    shortest, half, most, nearly_all, longest = report.length_percentiles
    console.print(
        f"{report.tokens:,} tokens to train on, {report.supervised_tokens:,} of them learnt ({share:.0%}); a row has "
        f"{shortest} to {longest} tokens (half up to {half}, 90% up to {most}, 99% up to {nearly_all}; limit {report.max_length})"
    )
    if report.conflicts:
        shown = ", ".join(report.conflicts[:_SHOWN_CONFLICTS])
        more = (
            f" and {len(report.conflicts) - _SHOWN_CONFLICTS} more" if len(report.conflicts) > _SHOWN_CONFLICTS else ""
        )
        console.print(f"{len(report.conflicts)} rows answer a question differently from an earlier row: {shown}{more}")
