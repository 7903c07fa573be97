"""Rows as the base model sees them, with what is learnt marked."""

import re
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.text import Text

from services.dataset.faults import DataRefused, Fault
from services.dataset.personal.inspector import Inspector
from services.dataset.prepare import read_rows
from services.dataset.render import Renderer
from services.dataset.rows import NOT_LEARNT, Example, Row
from services.dataset.settings import DataSettings
from services.dataset.sources import SourceFile, take_snapshot
from services.dataset.tokenizer import load_tokenizer, stop_ids

# What would steer the terminal, or turn round what is read on it, instead of being seen.
_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


class PreviewedRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row in pieces: ``(text, learnt)``, which together are what the base model reads."""

    row: str
    tokens: int
    learnt_tokens: int
    pieces: list[tuple[str, bool]]


def preview(
    datasets: Path, base_folder: Path, settings: DataSettings, *, rows: int, row: str | None
) -> list[PreviewedRow]:
    """Render the first ``rows`` rows, or the one at ``row`` (``file:line``).

    Raises:
        DataRefused: a file cannot be read, the row is faulty, or it is not there.
    """
    with tempfile.TemporaryDirectory(prefix="whetstone-preview-") as scratch:
        snapshot = Path(scratch, "snapshot")
        taken = take_snapshot(datasets, snapshot)
        if taken.faults:
            raise DataRefused(taken.faults)
        sources = taken.files
        if row is None:
            chosen = list(islice(_read(sources, snapshot, settings), max(rows, 0)))
        else:
            named = tuple(source for source in sources if row.startswith(f"{source.name}:"))
            chosen = [item for item in _read(named, snapshot, settings, row) if item.place == row][:1]
            if not chosen:
                remedy = "Write file.jsonl:line, with the line from 1"
                raise DataRefused([Fault(file=row, reason="no such row", remedy=remedy)])
    tokenizer = load_tokenizer(base_folder)
    renderer = Renderer(tokenizer, stop_ids(tokenizer, base_folder), learn_all=settings.loss == "all")
    if spelled := [fault for item in chosen if (fault := renderer.spelled_special_token(item)) is not None]:
        raise DataRefused(spelled)
    examples = list(renderer.examples(chosen))
    if faults := [example for example in examples if isinstance(example, Fault)]:
        raise DataRefused(faults)
    return [
        PreviewedRow(
            row=item.place,
            tokens=len(example.input_ids),
            learnt_tokens=example.supervised,
            pieces=_pieces(tokenizer, example),
        )
        for item, example in zip(chosen, examples, strict=True)
        if isinstance(example, Example)
    ]


def _read(
    sources: tuple[SourceFile, ...], snapshot: Path, settings: DataSettings, wanted: str | None = None
) -> Iterator[Row]:
    """Rows in order; a faulty one is refused, unless another is ``wanted``."""
    inspector = Inspector(settings.personal)
    for source in sources:
        for item in read_rows(snapshot / source.name, source.name, inspector, max_line_bytes=settings.max_line_bytes):
            if isinstance(item, Row):
                yield item
            elif wanted in (None, f"{item.file}:{item.line}"):
                raise DataRefused([item])


def print_preview(previewed: list[PreviewedRow], console: Console) -> None:
    """Print rows with learnt tokens in green, or in ``[[ ]]`` where there is no colour."""
    marked = console.color_system is None or console.no_color
    for item in previewed:
        title = Text(f"{item.row}: {item.tokens} tokens, {item.learnt_tokens} learnt")
        console.rule(title, align="left")
        text = Text()
        for piece, learnt in item.pieces:
            shown = _HIDDEN.sub(lambda found: ascii(found[0])[1:-1], piece)
            if marked:
                text.append(f"[[{shown}]]" if learnt else shown)
            else:
                text.append(shown, style="bold green" if learnt else "dim")
        console.print(text, soft_wrap=True)


def _pieces(tokenizer: Any, example: Example) -> list[tuple[str, bool]]:
    """Runs of tokens that are learnt or not, decoded together: a character can span several tokens."""
    pieces: list[tuple[str, bool]] = []
    run: list[int] = []
    learnt_now = False
    for token, label in zip(example.input_ids.tolist(), example.labels.tolist(), strict=True):
        learnt = label != NOT_LEARNT
        if run and learnt != learnt_now:
            pieces.append((_decode(tokenizer, run), learnt_now))
            run = []
        learnt_now = learnt
        run.append(token)
    if run:
        pieces.append((_decode(tokenizer, run), learnt_now))
    return pieces


def _decode(tokenizer: Any, run: list[int]) -> str:
    return str(tokenizer.decode(run, skip_special_tokens=False, clean_up_tokenization_spaces=False))
