"""What is wrong with the rows: every fault in one report, each with its place and remedy, never with content."""

from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from services.dataset.rows import Format

SHOWN_PER_FILE = 50


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One fault.

    Attributes:
        file: relative to the datasets folder; empty where the fault is about all rows.
        line: counted from 1; 0 where the fault is about the file.
        field: such as ``messages[2].role``; empty where the fault is about the line.
        reason: what is wrong.
        remedy: what to do about it.
    """

    file: str
    line: int = 0
    field: str = ""
    reason: str
    remedy: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        parts = [part for part in (place, self.field) if part]
        return ": ".join([*parts, f"{self.reason}. {self.remedy}"])


class Fit(msgspec.Struct, frozen=True):
    """What one process tells another of a file that is fit.

    Attributes:
        rows: that would be learnt.
        personal: how much likely personal data of each kind was found.
    """

    rows: int
    personal: dict[str, int]


class Refusal(msgspec.Struct, frozen=True):
    """What one process tells another of a file that is not fit.

    Attributes:
        count: of all faults.
        faults: the first of them.
    """

    count: int
    faults: Sequence[Fault]


class ReadFile(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a file although rows were refused.

    Attributes:
        format: of its rows; None where none could be read.
        rows: how many could be read.
        faults: how many faults it has.
    """

    file: str
    format: Format | None
    rows: int
    faults: int


class DataRefused(Exception):
    """The rows are not fit to train on; ``str()`` is the whole report.

    Attributes:
        faults: every one, in the order given.
        files: what could be read of each file; empty where nothing was.
    """

    def __init__(self, faults: Iterable[Fault], files: Iterable[ReadFile] = ()) -> None:
        """Carry every fault, and what is known of the files besides."""
        self.faults, self.files = tuple(faults), tuple(files)
        super().__init__(_describe(self.faults))


def _describe(faults: tuple[Fault, ...]) -> str:
    shown: Counter[str] = Counter()
    lines = [f"the data was refused: {len(faults)} fault{'s' if len(faults) != 1 else ''}"]
    for fault in faults:
        shown[fault.file] += 1
        if shown[fault.file] <= SHOWN_PER_FILE:
            lines.append(f"  {fault}")
    lines += [
        f"  {file}: {count - SHOWN_PER_FILE} more faults (`make check-data JSON=1` lists all)"
        for file, count in shown.items()
        if count > SHOWN_PER_FILE
    ]
    return "\n".join(lines)
