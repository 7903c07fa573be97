"""The whole way from files to examples, and the refusals that need all rows to be known."""

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from services.dataset.dedupe import Deduped, dedupe
from services.dataset.faults import DataRefused, Fault, ReadFile
from services.dataset.formats import Unfit, detect, parse, parse_check
from services.dataset.lines import read_objects
from services.dataset.personal.inspector import Inspector
from services.dataset.render import Renderer
from services.dataset.report import MAX_PLACES, DataReport, FileReport
from services.dataset.rows import Example, Format, Row
from services.dataset.settings import DataSettings
from services.dataset.sources import Snapshot, take_snapshot
from services.dataset.split import in_holdout
from services.dataset.tokenizer import load_tokenizer, stop_ids
from services.registry.rows import RowFate, Use


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that training and the gate need to know about the rows.

    Attributes:
        train: the rows to learn, in tokens.
        holdout: the rows to measure, in tokens.
        holdout_rows: the same, as they were read.
        fates: every row and what became of it, in order of file and line.
        report: the counts.
        tokenizer: the base model's, which the rows were rendered with; it takes long to load.
    """

    train: list[Example]
    holdout: list[Example]
    holdout_rows: list[Row]
    fates: list[RowFate]
    report: DataReport
    tokenizer: Any


def check_data(datasets: Path, base_folder: Path, settings: DataSettings, max_length: int) -> DataReport:
    """Check the rows as a retrain would, without keeping a copy.

    Raises:
        DataRefused: with every fault.
    """
    with tempfile.TemporaryDirectory(prefix="whetstone-check-") as scratch:
        snapshot = Path(scratch, "snapshot")
        return prepare(take_snapshot(datasets, snapshot), snapshot, base_folder, settings, max_length).report


def prepare(
    sources: Snapshot,
    snapshot: Path,
    base_folder: Path,
    settings: DataSettings,
    max_length: int,
    *,
    holdout_file: str | None = None,
    load: Callable[[Path], Any] = load_tokenizer,
) -> Prepared:
    """Read, check, drop, split, render.

    Args:
        sources: what was copied, and the faults of what was not.
        snapshot: where they lie.
        base_folder: the base model, of which only the tokenizer is loaded.
        settings: what is accepted.
        max_length: tokens; longer rows are dropped.
        load: the tokenizer of ``base_folder``.
        holdout_file: the file whose rows are held out, all of them and no others; None draws ``settings.holdout_share``.

    Raises:
        DataRefused: with every fault.
    """
    reports = {
        source.name: FileReport(file=source.name, sha256=source.sha256, size=source.size) for source in sources.files
    }
    inspector = Inspector(settings.personal)
    rows, faults = _read_all(snapshot, reports, inspector, settings)
    faults = [*sources.faults, *faults]
    if faults and not rows:
        raise _refused(faults, reports)
    tokenizer = load(base_folder)
    try:
        renderer = Renderer(tokenizer, stop_ids(tokenizer, base_folder), learn_all=settings.loss == "all")
        spelled = [renderer.spelled_special_token(row) for row in rows]
        faults += [fault for fault in spelled if fault is not None]
        kept = dedupe(row for row, fault in zip(rows, spelled, strict=True) if fault is None)
        split = _split(kept, renderer, _Chooser(settings.holdout_share, holdout_file), max_length)
    except DataRefused as error:  # the base model's template is to blame; what is known of the rows is said beside
        raise _refused([*faults, *error.faults], reports) from error
    faults += split.faults
    _count(split.fates, reports)
    report = _report(list(reports.values()), kept, split.train, inspector, max_length)
    # Judged once no row is missing: a row that is mended counts, so before that there may be enough of them.
    if faults := faults or _faults_of_all(report, settings):
        raise _refused(faults, reports)
    return Prepared(
        train=split.train,
        holdout=split.holdout,
        holdout_rows=split.holdout_rows,
        fates=split.fates,
        report=report,
        tokenizer=tokenizer,
    )


def _refused(faults: list[Fault], reports: dict[str, FileReport]) -> DataRefused:
    of_file = Counter(fault.file for fault in faults)
    files = [
        ReadFile(file=name, format=report.format, rows=report.rows, faults=of_file[name])
        for name, report in reports.items()
    ]
    return DataRefused(sorted(faults, key=lambda fault: (fault.file, fault.line)), files)


def read_rows(path: Path, name: str, inspector: Inspector, *, max_line_bytes: int) -> Iterator[Row | Fault]:
    """Every row of one file as it is trained, and what is wrong with it. A file holds one format.

    A row that is refused for what is personal in it comes after its faults: it may have others.

    Args:
        path: the file.
        name: what it is called in faults and rows.
        inspector: sees each row first.
        max_line_bytes: a longer line is a fault.
    """
    first: Format | None = None
    for item in read_objects(path, name, max_line_bytes=max_line_bytes):
        if isinstance(item, Fault):
            yield item
            continue
        line, value = item
        try:
            kind = detect(value, in_file=first)
            first = kind
            yield from inspector(value, name, line)
            yield Row(parse(value, kind), file=name, line=line, format=kind, check=parse_check(value))
        except Unfit as unfit:
            yield Fault(file=name, line=line, field=unfit.field, reason=unfit.reason, remedy=unfit.remedy)


def _read_all(
    snapshot: Path, reports: dict[str, FileReport], inspector: Inspector, settings: DataSettings
) -> tuple[list[Row], list[Fault]]:
    rows: list[Row] = []
    faults: list[Fault] = []
    for name, report in reports.items():
        for item in read_rows(snapshot / name, name, inspector, max_line_bytes=settings.max_line_bytes):
            if isinstance(item, Fault):
                faults.append(item)
                continue
            report.rows += 1
            report.format = item.format
            rows.append(item)
    return rows, faults


class _Split(msgspec.Struct):
    """Every row in its place."""

    train: list[Example] = []
    holdout: list[Example] = []
    holdout_rows: list[Row] = []
    fates: list[RowFate] = []
    faults: list[Fault] = []

    def settle(self, row: Row, use: Use) -> None:
        """Write down what became of a row."""
        self.fates.append(RowFate(use, row.file, row.line, row.sha256))


class _Chooser(msgspec.Struct, frozen=True):
    """Says which rows are held out: those of one file, or else a share of all."""

    share: float
    file: str | None

    def holds_out(self, row: Row, near_hash: str) -> bool:
        return in_holdout(near_hash, self.share) if self.file is None else row.file == self.file


def _split(kept: Deduped, renderer: Renderer, chooser: _Chooser, max_length: int) -> _Split:
    """Training's and the holdout's rows in tokens; what the template cannot write is a fault."""
    split = _Split()
    for row in kept.exact:
        split.settle(row, "exact duplicate")
    for row in kept.near:
        split.settle(row, "near duplicate")
    for row, near_hash, example in zip(kept.rows, kept.near_hashes, renderer.examples(kept.rows), strict=True):
        if isinstance(example, Fault):
            split.faults.append(example)
        elif len(example.input_ids) > max_length:
            split.settle(row, "too long")
        elif chooser.holds_out(row, near_hash):
            split.settle(row, "holdout")
            split.holdout.append(example)
            split.holdout_rows.append(row)
        else:
            split.settle(row, "train")
            split.train.append(example)
    split.fates.sort(key=lambda fate: (fate.file, fate.line))
    return split


def _count(fates: list[RowFate], reports: dict[str, FileReport]) -> None:
    """Put the fates' counts into their files' reports."""
    counts = Counter((fate.file, fate.use) for fate in fates)
    for name, report in reports.items():
        report.exact_duplicates = counts[name, "exact duplicate"]
        report.near_duplicates = counts[name, "near duplicate"]
        report.too_long = counts[name, "too long"]
        report.train = counts[name, "train"]
        report.holdout = counts[name, "holdout"]


def _report(
    files: list[FileReport], kept: Deduped, train: list[Example], inspector: Inspector, max_length: int
) -> DataReport:
    lengths = np.array([len(example.input_ids) for example in train] or [0])
    return DataReport(
        files=files,
        rows=sum(file.rows for file in files),
        train=len(train),
        holdout=sum(file.holdout for file in files),
        exact_duplicates=len(kept.exact),
        near_duplicates=len(kept.near),
        too_long=sum(file.too_long for file in files),
        tokens=int(lengths.sum()),
        supervised_tokens=sum(example.supervised for example in train),
        length_percentiles=np.percentile(lengths, (0, 50, 90, 99, 100)).astype(int).tolist(),
        conflicts=len(kept.conflicts),
        conflicting_rows=[row.place for row in kept.conflicts[:MAX_PLACES]],
        max_length=max_length,
        personal=inspector.reports,
    )


def _faults_of_all(report: DataReport, settings: DataSettings) -> list[Fault]:
    """What no single row is to blame for."""
    faults = []
    distinct = report.rows - report.exact_duplicates - report.near_duplicates
    if report.too_long > settings.max_too_long_share * distinct:
        reason = f"{report.too_long} of {distinct} rows are over recipe.max_length = {report.max_length} tokens"
        remedy = f"Shorten them, or raise recipe.max_length or data.max_too_long_share = {settings.max_too_long_share}"
        faults.append(Fault(file="all rows", reason=reason, remedy=remedy))
    if report.train < settings.min_rows:
        reason = f"{report.train} rows are left to train on, fewer than data.min_rows = {settings.min_rows}"
        faults.append(Fault(file="all rows", reason=reason, remedy="Add rows, or lower data.min_rows"))
    return faults
