"""Sizes of an engine step that are recorded as CUDA graphs: the engine's process launches kernels slower than a card runs them."""

_FINE, _MIDDLE = 256, 512  # tokens; a step of running answers alone has few
_STEPS = (8, 32, 64)


def graph_sizes(most: int) -> list[int]:
    """Numbers of tokens, in ascending order, to which a step is padded; a larger one runs without a graph.

    vLLM's own list ends at 512, or at twice ``max_num_seqs``: a busy server's steps hold new prompts and are larger.

    Args:
        most: the last of them; at least 1.
    """
    fine, middle, coarse = _STEPS
    sizes = [1, 2, 4, *range(fine, _FINE, fine), *range(_FINE, _MIDDLE, middle), *range(_MIDDLE, most, coarse)]
    return [size for size in sizes if size < most] + [most]
