"""Triton kernels for what PyTorch takes several passes over memory for; imported on a card only.

Each has its equal in PyTorch next to where it is called, which other devices take.
"""

from typing import Any

import torch
import triton
import triton.language as tl

_COLUMNS = 4096  # of a row that a program holds at once
_PIECE = 1024  # columns of a gate that a program opens
_HEADS = 4  # that a program turns at once


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
def _swiglu(gate, up, out, columns, of_gate, of_up, COLUMNS: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = at < columns
    opened = tl.load(gate + row * of_gate + at, mask=inside).to(tl.float32)
    raised = tl.load(up + row * of_up + at, mask=inside).to(tl.float32)
    tl.store(out + row * columns + at, opened * tl.sigmoid(opened) * raised, mask=inside)


@triton.jit
def _swiglu_backward(gate, up, grad, grad_gate, grad_up, columns, of_gate, of_up, COLUMNS: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = at < columns
    opened = tl.load(gate + row * of_gate + at, mask=inside).to(tl.float32)
    raised = tl.load(up + row * of_up + at, mask=inside).to(tl.float32)
    wanted = tl.load(grad + row * columns + at, mask=inside).to(tl.float32)
    sigmoid = tl.sigmoid(opened)
    tl.store(grad_up + row * columns + at, wanted * opened * sigmoid, mask=inside)
    tl.store(grad_gate + row * columns + at, wanted * raised * sigmoid * (1.0 + opened * (1.0 - sigmoid)), mask=inside)


class SwiGLU(torch.autograd.Function):  # type: ignore[misc]  # torch is not typed for mypy
    """silu(gate) x up (Shazeer, https://arxiv.org/abs/2002.05202); keeps its two inputs and nothing else."""

    @staticmethod
    def forward(ctx: Any, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        """Compute; both of one shape, their last dimension without gaps."""
        ctx.save_for_backward(gate, up)
        out = torch.empty(gate.shape, dtype=gate.dtype, device=gate.device)
        rows, columns = out.numel() // out.shape[-1], out.shape[-1]
        _swiglu[(rows, triton.cdiv(columns, _PIECE))](
            gate, up, out, columns, gate.stride(-2), up.stride(-2), COLUMNS=_PIECE
        )
        return out

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Both gradients in one pass."""
        gate, up = ctx.saved_tensors
        grad = grad.contiguous()
        grad_gate, grad_up = torch.empty_like(grad), torch.empty_like(grad)
        rows, columns = grad.numel() // grad.shape[-1], grad.shape[-1]
        _swiglu_backward[(rows, triton.cdiv(columns, _PIECE))](
            gate, up, grad, grad_gate, grad_up, columns, gate.stride(-2), up.stride(-2), COLUMNS=_PIECE
        )
        return grad_gate, grad_up


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
