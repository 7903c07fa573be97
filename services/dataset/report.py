"""What ``check-data`` found, for people and machines; it goes into the manifest, so it holds no content."""

from collections.abc import Sequence

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from services.common.consoles import unbroken
from services.dataset.faults import ReadFile
from services.dataset.personal.report import PersonalReport, told
from services.dataset.rows import Format

MAX_PLACES = 1000
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
        conflicts: how many kept rows answer a question differently from an earlier row.
        conflicting_rows: ``file:line`` of the first 1,000 of them: a manifest is bounded.
        max_length: the limit in tokens that was in force.
        personal: the kinds of likely personal data that were found.
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
    conflicts: int
    conflicting_rows: list[str]
    max_length: int
    personal: list[PersonalReport]


def print_report(report: DataReport, console: Console) -> None:
    """Print the report as a table and a few sentences; elsewhere than on a terminal no line is broken."""
    console = unbroken(console)
    table = _table("rows", "exact dup.", "near dup.", "too long", "train", "holdout")
    for file in report.files:
        table.add_row(Text(file.file), file.format or "empty", *_counts(file))
    if len(report.files) > 1:
        table.add_row("all", "", *_counts(report), style="bold")
    console.print(table)
    _say(console, _tokens(report))
    if report.conflicts:
        shown = report.conflicting_rows[:_SHOWN_CONFLICTS]
        more = f" and {report.conflicts - len(shown):,} more" if report.conflicts > len(shown) else ""
        verb = "rows answer" if report.conflicts > 1 else "row answers"
        _say(
            console,
            f"{report.conflicts:,} {verb} a question differently from an earlier row: {', '.join(shown)}{more}",
        )
    for sentence in told(report.personal):
        _say(console, sentence)


def print_read(files: Sequence[ReadFile], console: Console) -> None:
    """Print what is known of files whose rows were refused; likewise."""
    table = _table("rows read", "faults")
    for file in files:
        table.add_row(Text(file.file), file.format or "", f"{file.rows:,}", f"{file.faults:,}")
    unbroken(console).print(table)


def _table(*counts: str) -> Table:
    table = Table(box=None)
    table.add_column("file", overflow="fold")
    table.add_column("format", no_wrap=True)
    for name in counts:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _counts(of: FileReport | DataReport) -> list[str]:
    counts = (of.rows, of.exact_duplicates, of.near_duplicates, of.too_long, of.train, of.holdout)
    return [f"{count:,}" for count in counts]


def _tokens(report: DataReport) -> str:
    share = report.supervised_tokens / max(report.tokens, 1)
    shortest, half, most, nearly_all, longest = report.length_percentiles
    return (
        f"{report.tokens:,} tokens to train on, {report.supervised_tokens:,} of them learnt ({share:.0%}); a row has "
        f"{shortest} to {longest} tokens (half up to {half}, 90% up to {most}, 99% up to {nearly_all}; limit {report.max_length})"
    )


def _say(console: Console, sentence: str) -> None:
    console.print(sentence, markup=False, highlight=False)  # names of files are not markup
