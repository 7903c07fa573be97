"""``rows.csv`` of a version: every row that was read, by place and hash, and what became of it. No content."""

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import msgspec

from services.registry.errors import RegistryError
from services.registry.files import open_regular

ROWS = "rows.csv"
_HEADER = ("use", "file", "line", "sha256")

Use = Literal["train", "holdout", "exact duplicate", "near duplicate", "too long"]


class RowFate(msgspec.Struct, frozen=True):
    """One row and what became of it.

    Attributes:
        use: trained, held out, or why it was dropped.
        file: relative to the datasets folder.
        line: counted from 1.
        sha256: of the row's content: roles, texts, weights.
    """

    use: Use
    file: str
    line: int
    sha256: str


def encode_rows(rows: Iterable[RowFate]) -> bytes:
    """The file's bytes, in the order of ``rows``."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_HEADER)
    writer.writerows(msgspec.structs.astuple(row) for row in rows)
    return text.getvalue().encode()


def read_rows(folder: Path) -> list[RowFate]:
    """The rows of a version's folder.

    Raises:
        RegistryError: the version has no such file, or it cannot be read.
    """
    file = folder / ROWS
    try:
        with open_regular(file) as stream:
            lines = list(csv.reader(io.StringIO(stream.read().decode(), newline="")))
        return [msgspec.convert(dict(zip(_HEADER, line, strict=True)), RowFate, strict=False) for line in lines[1:]]
    except FileNotFoundError as error:
        raise RegistryError(f"{file}: this version was published without its rows' hashes") from error
    except (OSError, ValueError, csv.Error) as error:
        raise RegistryError(f"{file}: {error}; `make verify` tells whether the file is damaged") from error
