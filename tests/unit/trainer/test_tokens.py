"""What the worker reads of the rows is what was made of them."""

from pathlib import Path

import numpy as np
from datasets import Dataset

from services.dataset.rows import Example
from services.trainer.tokens import save_examples


def example(*tokens: int) -> Example:
    ids = np.array(tokens, dtype=np.int32)
    return Example(input_ids=ids, labels=np.where(ids % 2, ids, np.int32(-100)), row_hash="a" * 64)


def test_tokens_and_labels_come_back_in_their_order_and_width(tmp_path: Path) -> None:
    """As the library itself would have written them, of every length."""
    examples = [example(1, 2, 3), example(49_151), example(*range(2048))]
    folder = save_examples(examples, tmp_path / "rows")
    found = Dataset.load_from_disk(str(folder))
    columns = {name: [getattr(each, name) for each in examples] for name in ("input_ids", "labels")}
    plain = Dataset.from_dict(columns)
    assert found.features == plain.features
    assert found.to_dict() == plain.to_dict()


def test_no_rows_are_taken_for_other_ones(tmp_path: Path) -> None:
    """What the library keeps of rows that it has seen goes by a name."""
    for token in (1, 2):
        save_examples([example(token)], tmp_path / str(token))
    one, two = ((tmp_path / str(token) / "state.json").read_bytes() for token in (1, 2))
    assert one != two
