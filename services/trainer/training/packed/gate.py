"""down(silu(gate(x)) x up(x)), the widest part of a layer, without a copy of anything that is as wide as its inside."""

from collections.abc import Callable
from typing import Any

import torch

from services.trainer.training.packed.joined import Joined


class Gated(torch.autograd.Function):  # type: ignore[misc]  # torch is not typed for mypy
    """A gated block (Shazeer, https://arxiv.org/abs/2002.05202); gradients of A and B are added in place, autograd is given none."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, _trained: torch.Tensor, opened: Joined, closed: Joined) -> torch.Tensor:
        """Compute.

        Args:
            ctx: autograd's.
            x: ... x width.
            _trained: any tensor with a gradient, so that autograd calls ``backward`` where x has none.
            opened: gate and up.
            closed: down.

        Returns:
            ... x width.
        """
        rows = opened.inputs(x)
        both = opened.forward(rows)
        inner = closed.empty_inputs(rows.shape[0])
        _swiglu(both, inner[:, : closed.width])
        out = closed.forward(inner)
        ctx.save_for_backward(rows, both, inner)
        ctx.opened, ctx.closed, ctx.shape = opened, closed, x.shape
        return out.view(*x.shape[:-1], closed.out)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, None, None, None]:
        """The gradient of x."""
        rows, both, inner = ctx.saved_tensors
        opened: Joined = ctx.opened
        closed: Joined = ctx.closed
        of_inner = closed.backward(closed.gradients(grad), inner)
        of_both = opened.empty_gradients(rows.shape[0])
        _swiglu_backward(both, of_inner, of_both[:, : opened.out])
        of_x = opened.backward(of_both, rows, wants_x=ctx.needs_input_grad[0])
        return None if of_x is None else of_x.view(ctx.shape), None, None, None


def gated(block: Any, opened: Joined, closed: Joined, trained: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    """The forward pass of a block with ``gate_proj``, ``up_proj`` and ``down_proj``.

    Args:
        block: of the base model; its own forward pass is taken where the adapter is switched off.
        opened: gate and up.
        closed: down.
        trained: any tensor with a gradient.
    """
    plain = block.forward
    layers = [block.gate_proj, block.up_proj, block.down_proj]

    def forward(x: torch.Tensor) -> torch.Tensor:
        off = any(getattr(layer, "disable_adapters", False) for layer in layers)
        out: torch.Tensor = plain(x) if off else Gated.apply(x, trained, opened, closed)
        return out

    return forward


def _swiglu(both: torch.Tensor, out: torch.Tensor) -> None:
    """silu(gate) x up into ``out``, of gate and up side by side."""
    if both.is_cuda:
        from services.trainer.training.packed.kernels import swiglu  # noqa: PLC0415 - Triton, a card's only

        return swiglu(both, out)
    gate, up = both.chunk(2, dim=1)
    torch.mul(torch.nn.functional.silu(gate), up, out=out)
    return None


def _swiglu_backward(both: torch.Tensor, grad: torch.Tensor, out: torch.Tensor) -> None:
    """The gradients of gate and up into ``out``, side by side, of that of their result."""
    if both.is_cuda:
        from services.trainer.training.packed.kernels import swiglu_backward  # noqa: PLC0415 - see _swiglu

        return swiglu_backward(both, grad, out)
    gate, up = both.chunk(2, dim=1)
    of_gate, of_up = out.chunk(2, dim=1)
    torch.mul(grad, torch.nn.functional.silu(gate), out=of_up)
    of_gate.copy_(torch.ops.aten.silu_backward(grad * up, gate))
    return None
