"""Around every test of the training loop."""

from collections.abc import Iterator

import pytest
from transformers.models.llama import modeling_llama


@pytest.fixture(autouse=True)
def own_rotation() -> Iterator[None]:
    """Give transformers its own function back: a worker, which replaces it, is otherwise a process that ends."""
    own = modeling_llama.apply_rotary_pos_emb
    yield
    modeling_llama.apply_rotary_pos_emb = own
