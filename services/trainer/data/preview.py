"""Rows as the base model sees them, with what is learnt marked."""

import tempfile
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.text import Text

from services.trainer.data.faults import DataRefused, Fault
from services.trainer.data.prepare import read_rows
from services.trainer.data.render import Renderer
from services.trainer.data.rows import NOT_LEARNT, Example, Row
from services.trainer.data.settings import DataSettings
from services.trainer.data.sources import take_snapshot
from services.trainer.data.tokenizer import load_tokenizer, stop_ids


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
        sources = take_snapshot(datasets, snapshot)
        chosen: list[Row] = []
        for source in sources:
            for item in read_rows(snapshot / source.name, source.name, max_line_bytes=settings.max_line_bytes):
                place = item.place if isinstance(item, Row) else f"{item.file}:{item.line}"
                if row is not None and place != row:
                    continue
                if isinstance(item, Fault):
                    raise DataRefused([item])
                chosen.append(item)
                if len(chosen) == (1 if row else rows):
                    break
            if len(chosen) == (1 if row else rows):
                break
    if row is not None and not chosen:
        raise DataRefused([Fault(file=row, reason="no such row", remedy="Write file.jsonl:line, with the line from 1")])
    tokenizer = load_tokenizer(base_folder)
    renderer = Renderer(tokenizer, stop_ids(tokenizer, base_folder), learn_all=settings.loss == "all")
    if spelled := [fault for item in chosen if (fault := renderer.spelled_special_token(item)) is not None]:
        raise DataRefused(spelled)
    return [
        PreviewedRow(
            row=item.place,
            tokens=len(example.input_ids),
            learnt_tokens=example.supervised,
            pieces=_pieces(tokenizer, example),
        )
        for item, example in zip(chosen, renderer.examples(chosen), strict=True)
    ]


def print_preview(previewed: list[PreviewedRow], console: Console) -> None:
    """Print rows with learnt tokens in green, or in ``[[ ]]`` where there is no colour."""
    for item in previewed:
        console.rule(f"{item.row}: {item.tokens} tokens, {item.learnt_tokens} learnt", align="left")
        text = Text()
        for piece, learnt in item.pieces:
            if learnt and console.color_system is None:
                text.append(f"[[{piece}]]")
            else:
                text.append(piece, style="bold green" if learnt else "dim")
        console.print(text, soft_wrap=True)


def _pieces(tokenizer: Any, example: Example) -> list[tuple[str, bool]]:
    """Runs of tokens that are learnt or not, decoded together: a character can span several tokens."""
    pieces: list[tuple[str, bool]] = []
    run: list[int] = []
    learnt_now = False
    for token, label in zip(example.input_ids.tolist(), example.labels.tolist(), strict=True):
        learnt = label != NOT_LEARNT
        if run and learnt != learnt_now:
            pieces.append((tokenizer.decode(run), learnt_now))
            run = []
        learnt_now = learnt
        run.append(token)
    if run:
        pieces.append((tokenizer.decode(run), learnt_now))
    return pieces
