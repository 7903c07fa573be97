"""Loss at the positions that predict a learnt token: logits in pieces, the gradient beside the loss, no graph through them."""

from typing import Any

import torch

_PIECE = 2048  # positions whose logits are in memory at once


class HeadLoss(torch.autograd.Function):  # type: ignore[misc]  # torch is not typed for mypy
    """Sum of -log p(target) over positions, of hidden states and a frozen output matrix.

    The gradient of the hidden states is (softmax - one-hot) x matrix. It is computed in the forward pass, while a piece's logits
    are there, and scaled in the backward pass; as Liger's and Apple's cut cross-entropy do (https://arxiv.org/abs/2411.09009).
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, matrix: torch.Tensor, targets: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute.

        Args:
            ctx: autograd's.
            hidden: S x width.
            matrix: vocabulary x width.
            targets: S; -100 counts nothing.

        Returns:
            the sum in nats, and how many targets are their position's likeliest token.
        """
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        right = torch.zeros((), dtype=torch.float32, device=hidden.device)
        gradient = torch.empty_like(hidden)
        for begin in range(0, hidden.shape[0], _PIECE):
            piece = slice(begin, begin + _PIECE)
            logits = hidden[piece] @ matrix.t()
            losses, guessed, residue = _cross_entropy(logits, targets[piece])
            total += losses.sum()
            right += guessed.sum()
            torch.mm(residue, matrix, out=gradient[piece])
        ctx.save_for_backward(gradient)
        ctx.mark_non_differentiable(right)
        return total, right

    @staticmethod
    def backward(ctx: Any, grad_total: torch.Tensor, grad_right: Any) -> tuple[torch.Tensor, None, None]:
        """Scale what the forward pass computed."""
        del grad_right
        (gradient,) = ctx.saved_tensors
        return gradient * grad_total.to(gradient.dtype), None, None


def _cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Losses, 1 where the target is the likeliest token, and softmax - one-hot in the logits' precision."""
    if logits.is_cuda:
        from services.trainer.training.packed.kernels import cross_entropy_  # noqa: PLC0415 - Triton, a card's only

        return *cross_entropy_(logits, targets), logits
    counts, index = (targets >= 0).float(), targets.clamp(min=0)[:, None]
    wide = logits.float()
    chosen = wide.gather(1, index)[:, 0]
    right = (wide.amax(dim=1) == chosen) * counts
    normaliser = torch.logsumexp(wide, dim=1)
    losses = (normaliser - chosen) * counts
    residue = wide.sub_(normaliser[:, None]).exp_()
    residue.scatter_add_(1, index, torch.full_like(index, -1, dtype=residue.dtype))
    residue *= counts[:, None]
    return losses, right, residue.to(logits.dtype)
