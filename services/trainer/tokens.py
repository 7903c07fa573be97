"""Examples as the worker reads them: a folder of the datasets library."""

import secrets
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from datasets import Dataset, disable_progress_bars

from services.dataset.rows import Example, TokenIds


def save_examples(examples: Sequence[Example], folder: Path) -> Path:
    """Write the columns ``input_ids`` and ``labels``, each of lists of int32.

    Args:
        examples: at least one.
        folder: is made.

    Returns:
        the folder.
    """
    columns = {name: _column([getattr(example, name) for example in examples]) for name in ("input_ids", "labels")}
    disable_progress_bars()  # writing takes a moment; the bar that counts is the training's
    # A name of its own: the library would hash every token to make one up.
    Dataset(pa.table(columns), fingerprint=secrets.token_hex(8)).save_to_disk(str(folder))
    return folder


def _column(rows: Sequence[TokenIds]) -> pa.ListArray:
    edges = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum([len(row) for row in rows], out=edges[1:])
    return pa.ListArray.from_arrays(edges, np.concatenate(rows))
