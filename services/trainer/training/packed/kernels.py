"""Triton kernels for what PyTorch takes several passes over memory for; imported on a card only.

Each has its equal in PyTorch next to where it is called, which other devices take.
"""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl

_COLUMNS = 4096  # of a row that a program holds at once
_PIECE = 1024  # columns of a gate that a program opens
_HEADS = 4  # that a program turns at once
_WRITTEN = 1024  # weights that a program copies


@triton.jit
def _cross_entropy(logits, targets, losses, right, columns, COLUMNS: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    logits += row * columns
    target = tl.load(targets + row)
    chosen = tl.load(logits + tl.maximum(target, 0)).to(tl.float32)  # before anything is overwritten
    largest = float("-inf")
    total = 0.0
    for begin in range(0, columns, COLUMNS):
        at = begin + tl.arange(0, COLUMNS)
        piece = tl.load(logits + at, mask=at < columns, other=float("-inf")).to(tl.float32)
        larger = tl.maximum(largest, tl.max(piece, 0))
        total = total * tl.exp(largest - larger) + tl.sum(tl.exp(piece - larger), 0)
        largest = larger
    normaliser = largest + tl.log(total)
    counts = target >= 0
    tl.store(losses + row, tl.where(counts, normaliser - chosen, 0.0))
    tl.store(right + row, tl.where(counts & (chosen == largest), 1.0, 0.0))
    for begin in range(0, columns, COLUMNS):
        at = begin + tl.arange(0, COLUMNS)
        piece = tl.load(logits + at, mask=at < columns, other=float("-inf")).to(tl.float32)
        gradient = tl.exp(piece - normaliser) - tl.where(at == target, 1.0, 0.0)
        tl.store(logits + at, tl.where(counts, gradient, 0.0), mask=at < columns)


def cross_entropy_(logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss of each position; leaves its gradient where the logits were.

    Args:
        logits: S x vocabulary, contiguous; overwritten by softmax - one-hot, by 0 where a target does not count.
        targets: S; less than 0 counts nothing.

    Returns:
        S losses in nats and, for each position, 1 where its target is the likeliest token; both float32.
    """
    losses = torch.empty(logits.shape[0], dtype=torch.float32, device=logits.device)
    right = torch.empty_like(losses)
    _cross_entropy[(logits.shape[0],)](logits, targets, losses, right, logits.shape[1], COLUMNS=_COLUMNS, num_warps=8)
    return losses, right


@triton.jit
def _swiglu(both, out, columns, of_both, of_out, COLUMNS: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = at < columns
    opened = tl.load(both + row * of_both + at, mask=inside).to(tl.float32)
    raised = tl.load(both + row * of_both + columns + at, mask=inside).to(tl.float32)
    tl.store(out + row * of_out + at, opened * tl.sigmoid(opened) * raised, mask=inside)


def swiglu(both: torch.Tensor, out: torch.Tensor) -> None:
    """silu(gate) x up (Shazeer, https://arxiv.org/abs/2002.05202).

    Args:
        both: T x 2 inner, gate and up side by side; columns without gaps.
        out: T x inner, written; columns without gaps.
    """
    rows, columns = out.shape
    grid = (rows, triton.cdiv(columns, _PIECE))
    _swiglu[grid](both, out, columns, both.stride(0), out.stride(0), COLUMNS=_PIECE)


@triton.jit
def _swiglu_backward(both, grad, out, columns, of_both, of_grad, of_out, COLUMNS: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = at < columns
    opened = tl.load(both + row * of_both + at, mask=inside).to(tl.float32)
    raised = tl.load(both + row * of_both + columns + at, mask=inside).to(tl.float32)
    wanted = tl.load(grad + row * of_grad + at, mask=inside).to(tl.float32)
    sigmoid = tl.sigmoid(opened)
    of_gate = wanted * raised * sigmoid * (1.0 + opened * (1.0 - sigmoid))
    tl.store(out + row * of_out + at, of_gate, mask=inside)
    tl.store(out + row * of_out + columns + at, wanted * opened * sigmoid, mask=inside)


def swiglu_backward(both: torch.Tensor, grad: torch.Tensor, out: torch.Tensor) -> None:
    """Its gradient.

    Args:
        both: see ``swiglu``.
        grad: T x inner, of its result.
        out: T x 2 inner, written: of gate and up; columns without gaps.
    """
    rows, columns = grad.shape
    grid = (rows, triton.cdiv(columns, _PIECE))
    _swiglu_backward[grid](both, grad, out, columns, both.stride(0), grad.stride(0), out.stride(0), COLUMNS=_PIECE)


@triton.jit
def _rotate(
    x, out, cos, sin, heads, of_head, of_token, sign, HALF: tl.constexpr, ROOM: tl.constexpr, HEADS: tl.constexpr
):
    token = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, ROOM)
    head = tl.program_id(1) * HEADS + tl.arange(0, HEADS)
    inside = (head < heads)[:, None] & (at < HALF)[None, :]
    cosine = tl.load(cos + token * 2 * HALF + at, mask=at < HALF).to(tl.float32)[None, :]
    sine = tl.load(sin + token * 2 * HALF + at, mask=at < HALF).to(tl.float32)[None, :] * sign
    begin = x + token * of_token + head[:, None] * of_head + at[None, :]
    first = tl.load(begin, mask=inside).to(tl.float32)
    second = tl.load(begin + HALF, mask=inside).to(tl.float32)
    place = out + (token * heads + head[:, None]) * 2 * HALF + at[None, :]
    tl.store(place, first * cosine - second * sine, mask=inside)
    tl.store(place + HALF, second * cosine + first * sine, mask=inside)


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, *, back: bool = False) -> torch.Tensor:
    """Turn each head by its token's angles.

    Args:
        x: 1 x heads x T x width, the last without gaps.
        cos: 1 x T x width, contiguous, both halves alike; and sin.
        sin: as ``cos``.
        back: by the negative angles.

    Returns:
        of x's shape; in memory T x heads x width.
    """
    _, heads, tokens, width = x.shape
    out = torch.empty((1, tokens, heads, width), dtype=x.dtype, device=x.device)
    _rotate[(tokens, triton.cdiv(heads, _HEADS))](
        x,
        out,
        cos,
        sin,
        heads,
        x.stride(1),
        x.stride(2),
        -1.0 if back else 1.0,
        HALF=width // 2,
        ROOM=triton.next_power_of_2(width // 2),
        HEADS=_HEADS,
    )
    return out.transpose(1, 2)


@triton.jit
def _copy(source, target, columns, of_source, of_target, COLUMNS: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = at < columns
    tl.store(target + row * of_target + at, tl.load(source + row * of_source + at, mask=inside), mask=inside)


def copy_rows(source: torch.Tensor, target: torch.Tensor) -> None:
    """Copy T x columns, without gaps in its columns, to a place beside others; PyTorch's own kernel takes twice the time for that."""
    rows, columns = source.shape
    piece = min(triton.next_power_of_2(columns), _PIECE)
    _copy[(rows, triton.cdiv(columns, piece))](
        source, target, columns, source.stride(0), target.stride(0), COLUMNS=piece
    )


@triton.jit
def _write(flat, table, PIECE: tl.constexpr, KIND: tl.constexpr):
    entry = table + tl.program_id(0) * 5
    source, place, columns = tl.load(entry), tl.load(entry + 1), tl.load(entry + 2)
    of_row, count = tl.load(entry + 3), tl.load(entry + 4)
    at = tl.arange(0, PIECE)
    value = tl.load(flat + source + at, mask=at < count)
    target = place.to(tl.pointer_type(KIND)) + (at // columns) * of_row + at % columns
    tl.store(target, value.to(KIND), mask=at < count)


class Writer:
    """Copies pieces of one float32 tensor to places elsewhere, all in one kernel.

    Args:
        written: slices of the tensor, and where each goes: rows x columns, columns without gaps; all of one precision. They must
            stay where they are.
        device: the card.
    """

    def __init__(self, written: Sequence[tuple[slice, torch.Tensor]], device: torch.device) -> None:
        entries = []
        for source, place in written:
            rows, columns = place.shape
            together = max(_WRITTEN // columns, 1)  # whole rows of a piece
            for row in range(0, rows, together):
                for begin in range(0, columns, _WRITTEN):
                    some, wide = min(together, rows - row), min(_WRITTEN, columns - begin)
                    target = place.data_ptr() + (row * place.stride(0) + begin) * place.element_size()
                    entries.append((source.start + row * columns + begin, target, wide, place.stride(0), some * wide))
        self._table = torch.tensor(entries, dtype=torch.int64, device=device)
        self._kind = {torch.bfloat16: tl.bfloat16, torch.float32: tl.float32}[written[0][1].dtype]

    def __call__(self, flat: torch.Tensor) -> None:
        """Copy."""
        _write[(self._table.shape[0],)](flat, self._table, PIECE=_WRITTEN, KIND=self._kind)
