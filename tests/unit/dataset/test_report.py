"""What check-data prints and what goes into a manifest: counts and places, whole in a log, never the rows."""

import io
import json
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from services.dataset.faults import ReadFile
from services.dataset.prepare import check_data
from services.dataset.report import MAX_PLACES, DataReport, FileReport, print_read, print_report
from services.dataset.settings import DataSettings
from tests.support.personal import personal
from tests.support.tokenizers import save_base

SECRET = "Geheimnis-4711"
LONG_NAME = "a/very/long/folder/" + "x" * 90 + "/[bold]odd[/bold].jsonl"


def file(name: str) -> FileReport:
    return FileReport(
        file=name, sha256="0" * 64, size=9, format="prompt", rows=12_345, exact_duplicates=1, train=11, holdout=2
    )


def report(*names: str, conflicts: int = 0) -> DataReport:
    return DataReport(
        files=[file(name) for name in names],
        rows=12_345 * len(names),
        train=11,
        holdout=2,
        exact_duplicates=1,
        near_duplicates=0,
        too_long=0,
        tokens=2_000,
        supervised_tokens=500,
        length_percentiles=[5, 20, 30, 40, 50],
        conflicts=conflicts,
        conflicting_rows=[f"a.jsonl:{line}" for line in range(1, min(conflicts, MAX_PLACES) + 1)],
        max_length=2048,
        personal=[],
    )


def printed(of: DataReport, *, terminal: bool = False) -> list[str]:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=80, color_system=None)
    print_report(of, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_each_file_is_one_line_in_a_log_however_long_its_name() -> None:
    lines = printed(report("a.jsonl", LONG_NAME))
    assert len(lines) == 5
    assert lines[2].split() == [LONG_NAME, "prompt", "12,345", "1", "0", "0", "11", "2"]
    assert lines[3].split() == ["all", "24,690", "1", "0", "0", "11", "2"]
    assert "2,000 tokens to train on, 500 of them learnt (25%)" in lines[4]
    assert lines[4].endswith("limit 2048)")


def test_a_terminal_keeps_every_count_however_long_a_name() -> None:
    lines = printed(report(LONG_NAME), terminal=True)
    assert all(len(line.rstrip()) <= 80 for line in lines)
    assert "12,345" in lines[1]


@pytest.mark.parametrize("terminal", [False, True])
def test_what_is_known_of_refused_files_is_printed(terminal: bool) -> None:  # noqa: FBT001 - a parameter
    console = Console(file=io.StringIO(), force_terminal=terminal, width=80, color_system=None)
    print_read(
        [
            ReadFile(file="[bold]a.jsonl", format="messages", rows=12_345, faults=2),
            ReadFile(file="b.jsonl", format=None, rows=0, faults=1),
        ],
        console,
    )
    assert isinstance(console.file, io.StringIO)
    lines = [line.split() for line in console.file.getvalue().splitlines()]
    assert lines == [
        ["file", "format", "rows", "read", "faults"],
        ["[bold]a.jsonl", "messages", "12,345", "2"],
        ["b.jsonl", "0", "1"],
    ]


@pytest.mark.parametrize(
    ("count", "end"),
    [(1, "1 row answers a question differently from an earlier row: a.jsonl:1"), (5000, "a.jsonl:10 and 4,990 more")],
)
def test_conflicts_are_counted_and_the_first_are_named(count: int, end: str) -> None:
    assert printed(report("a.jsonl", conflicts=count))[-1].endswith(end)


def test_what_goes_into_a_manifest_is_bounded_and_holds_no_content(tmp_path: Path) -> None:
    datasets = tmp_path / "datasets"
    datasets.mkdir()
    rows = ({"prompt": SECRET, "completion": f"{SECRET} {line}"} for line in range(MAX_PLACES + 50))
    (datasets / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = DataSettings(
        holdout_share=0.1,
        min_rows=1,
        max_too_long_share=0.0,
        max_line_bytes=4096,
        loss="assistant",
        personal=personal(),
    )
    made = check_data(datasets, save_base(tmp_path / "base"), settings, 4096)
    encoded = msgspec.json.encode(made)
    assert (made.conflicts, len(made.conflicting_rows)) == (MAX_PLACES + 49, MAX_PLACES)
    assert made.conflicting_rows[0] == "a.jsonl:2"
    assert SECRET.encode() not in encoded
    assert "".join(printed(made)).count(SECRET) == 0
    [of_file] = made.files
    assert of_file.train + of_file.holdout == of_file.rows == MAX_PLACES + 50
    assert of_file.size == (datasets / "a.jsonl").stat().st_size
    assert msgspec.json.decode(encoded, type=DataReport) == made
