"""What training in Qwen2.5-0.5B's shape needs of arithmetic, and what a card can do."""

import time

from benchmarks.bases import HEADS, INNER, KEY_HEADS, LAYERS, VOCABULARY, WIDTH

_RANK = 16
_KEYS = WIDTH // HEADS * KEY_HEADS
# (in, out) of the seven projections.
_PROJECTIONS = [
    (WIDTH, WIDTH),
    (WIDTH, _KEYS),
    (WIDTH, _KEYS),
    (WIDTH, WIDTH),
    (WIDTH, INNER),
    (WIDTH, INNER),
    (INNER, WIDTH),
]


def useful_flops(length: int, learnt: float) -> float:
    """Arithmetic that an update of LoRA weights needs for one row, nothing counted that is computed twice.

    Each multiplication and addition of a matrix product counts one. A frozen matrix is used in the forward pass and for the
    gradient of its input, a trained one for its own, too. Causal attention sees half of length x length, in two products; their
    backward pass has four.

    Args:
        length: of the row, in tokens.
        learnt: tokens of it whose logits are needed.
    """
    frozen = 4 * sum(into * out for into, out in _PROJECTIONS)
    trained = 6 * sum(_RANK * (into + out) for into, out in _PROJECTIONS)
    attention = 6 * length * WIDTH
    return float(LAYERS * length * (frozen + trained + attention) + 4 * VOCABULARY * WIDTH * learnt)


def matrix_rate() -> float | None:
    """The card's bfloat16 rate in 1e12 operations a second, of square matrices of 8,192; None without a card."""
    import torch  # noqa: PLC0415 - seconds to import

    if not torch.cuda.is_available():
        return None
    size, repeats = 8192, 30
    left, right = (torch.randn(size, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        left @ right
    torch.cuda.synchronize()
    began = time.monotonic()
    for _ in range(repeats):
        left @ right
    torch.cuda.synchronize()
    return float(2 * size**3 * repeats / (time.monotonic() - began) / 1e12)
