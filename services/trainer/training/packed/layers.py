"""Norms and rotary positions of the base model in fewer kernels, each taken only where it computes what the model's own does."""

import sys
from collections.abc import Callable
from typing import Any

import torch

_TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2}  # relative to the largest value; bfloat16 has eight bits
_TRIED = 8  # positions


def join_layers(model: torch.nn.Module) -> list[str]:
    """Replace what has an equal in fewer kernels.

    Returns:
        what was replaced, by class or function.
    """
    replaced = {type(module).__name__ for module in model.modules() if _joined_norm(module)}
    device = next(model.parameters()).device
    for modeling in {sys.modules[type(module).__module__] for module in model.modules()}:
        own = getattr(modeling, "apply_rotary_pos_emb", None)
        if own is not None and own is not rotate_both and _turns_alike(own, device):
            modeling.apply_rotary_pos_emb = rotate_both  # type: ignore[attr-defined]
            replaced.add("apply_rotary_pos_emb")
    return sorted(replaced)


def _joined_norm(norm: Any) -> bool:
    """Whether ``norm`` is a root mean square norm (Zhang and Sennrich, https://arxiv.org/abs/1910.07467), replaced now."""
    epsilon, weight = getattr(norm, "variance_epsilon", None), getattr(norm, "weight", None)
    if epsilon is None or weight is None or weight.dim() != 1 or not type(norm).__name__.endswith("RMSNorm"):
        return False

    def forward(x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.rms_norm(x.to(weight.dtype), weight.shape, weight, epsilon)

    return replace(norm, forward, weight)


def replace(module: Any, forward: Callable[[torch.Tensor], torch.Tensor], weight: torch.Tensor) -> bool:
    """Replace a module's forward pass by an equal one; whether it is one.

    Args:
        module: takes and returns ... x width.
        forward: instead.
        weight: of the module; its last dimension is the width.
    """
    tried = _drawn(_TRIED, weight.shape[-1]).to(weight)
    try:
        with torch.no_grad():
            alike = _alike(module(tried), forward(tried))
    except (TypeError, RuntimeError):
        return False  # it is made of something else
    if alike:
        module.forward = forward
    return alike


class Rotate(torch.autograd.Function):  # type: ignore[misc]  # torch is not typed for mypy
    """Rotary positions (Su et al., https://arxiv.org/abs/2104.09864) on the halves of each head, without a copy per term."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        """Compute.

        Args:
            ctx: autograd's.
            x: 1 x heads x T x width.
            cos: 1 x T x width, both halves alike.
            sin: as ``cos``.
        """
        ctx.save_for_backward(cos, sin)
        return _rotated(x, cos, sin, back=False)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        """Turn back."""
        return _rotated(grad, *ctx.saved_tensors, back=True), None, None


def rotate_both(
    q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Turn queries and keys; takes what transformers' models hand to their own function."""
    cos, sin = cos.to(q.dtype), sin.to(q.dtype)
    return Rotate.apply(q, cos, sin), Rotate.apply(k, cos, sin)


def _rotated(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, *, back: bool) -> torch.Tensor:
    if x.is_cuda:
        from services.trainer.training.packed.kernels import rotate  # noqa: PLC0415 - Triton, a card's only

        return rotate(x if x.stride(-1) == 1 else x.contiguous(), cos.contiguous(), sin.contiguous(), back=back)
    half = x.shape[-1] // 2
    cos, sin = cos.unsqueeze(1), (-sin if back else sin).unsqueeze(1)
    out = x * cos
    out[..., :half].addcmul_(x[..., half:], sin[..., :half], value=-1)
    out[..., half:].addcmul_(x[..., :half], sin[..., half:])
    return out


def _turns_alike(own: Callable[..., Any], device: torch.device) -> bool:
    q, k = _drawn(1, 2, _TRIED, 16).to(device), _drawn(1, 1, _TRIED, 16).to(device)
    angles = _drawn(1, _TRIED, 8).repeat(1, 1, 2).to(device)
    try:
        expected = own(q, k, angles.cos(), angles.sin())
    except (TypeError, RuntimeError):
        return False  # it takes something else
    return all(map(_alike, expected, rotate_both(q, k, angles.cos(), angles.sin())))


def _drawn(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))  # the run's own order of chance stays


def _alike(expected: torch.Tensor, found: torch.Tensor) -> bool:
    if expected.shape != found.shape or expected.dtype != found.dtype:
        return False
    return bool((expected - found).abs().max() <= _TOLERANCE[expected.dtype] * expected.abs().max())
