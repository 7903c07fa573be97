"""What was found, for people and machines: places and counts, never what was looked for, never a row."""

import msgspec

MAX_LINES = 1000


class FoundRows(msgspec.Struct, kw_only=True):
    """Rows of one file.

    Attributes:
        file: relative to the data folder.
        rows: how many of its rows are to go.
        lines: the first 1,000 of them, counted from 1.
        owner: of an upload, the name of the key; empty for other files.
    """

    file: str
    rows: int = 0
    lines: list[int] = []
    owner: str = ""

    def add(self, line: int) -> None:
        """Count one more row."""
        self.rows += 1
        if self.rows <= MAX_LINES:
            self.lines.append(line)


class FoundVersion(msgspec.Struct, frozen=True, kw_only=True):
    """One version that had to do with the rows.

    Attributes:
        model: such as ``acme@7``.
        trained: how many of the rows it was trained on.
        held_out: how many it was only judged by.
        served: it is the one in service.
    """

    model: str
    trained: int
    held_out: int
    served: bool


class Findings(msgspec.Struct, kw_only=True):
    """All that was found.

    Attributes:
        removed: whether it is gone; False for a dry run.
        needles: for each text that was looked for, in order, how many rows of ``datasets`` and ``uploads`` hold it.
        datasets: the operator's files.
        uploads: the apps' files.
        runs: folders of training runs, or of checks that were cut off, which hold copies of such rows: they go whole.
        reports: of the gate, which quote such rows: they go on without these.
        versions: that learnt such rows or were judged by them.
        unclear: versions that do not say what they learnt, and why.
        not_searched: what lies among the datasets and is no plain ``.jsonl`` file.
    """

    removed: bool = False
    needles: list[int]
    datasets: list[FoundRows] = []
    uploads: list[FoundRows] = []
    runs: list[str] = []
    reports: list[str] = []
    versions: list[FoundVersion] = []
    unclear: list[str] = []
    not_searched: list[str] = []

    @property
    def anything(self) -> bool:
        """Whether something is to be removed."""
        return bool(self.datasets or self.uploads or self.runs or self.reports)
