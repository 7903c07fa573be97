"""Sizes of the engine's CUDA graphs."""

import pytest

from services.server.engine.card.graphs import graph_sizes


@pytest.mark.parametrize("most", [1, 2, 7, 8, 100, 256, 300, 512, 1000, 2048])
def test_sizes_ascend_to_the_last_one(most: int) -> None:
    """Each once; none beyond what was asked for, which is one of them."""
    sizes = graph_sizes(most)
    assert sizes == sorted(set(sizes))
    assert (sizes[0], sizes[-1]) == (1, most)


def test_a_step_is_padded_by_an_eighth_at_most() -> None:
    """From the sizes on at which padding costs more than a launch does."""
    sizes = graph_sizes(2048)
    for tokens in range(64, 2048):
        padded = next(size for size in sizes if size >= tokens)
        assert padded - tokens <= tokens / 8
    assert len(sizes) < 80  # each is recorded at every start
