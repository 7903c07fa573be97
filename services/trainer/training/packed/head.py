"""Loss at the positions that predict a learnt token: logits in pieces, the gradient beside the loss, no graph through them."""

from typing import NamedTuple

import torch

_PIECE = 2048  # positions whose logits are in memory at once


class HeadLoss(NamedTuple):
    """Of S positions.

    Attributes:
        total: the sum of -log p(target), in nats.
        right: targets that are their position's likeliest token.
        gradient: of ``total`` by the hidden states, S x width; None where it was not asked for.
    """

    total: torch.Tensor
    right: torch.Tensor
    gradient: torch.Tensor | None


def head_loss(hidden: torch.Tensor, matrix: torch.Tensor, targets: torch.Tensor, *, with_gradient: bool) -> HeadLoss:
    """Loss of hidden states and a frozen output matrix.

    The gradient of the hidden states is (softmax - one-hot) x matrix. It is computed while a piece's logits are there, as Liger's
    and Apple's cut cross-entropy do (https://arxiv.org/abs/2411.09009).

    Args:
        hidden: S x width.
        matrix: vocabulary x width.
        targets: S; -100 counts nothing.
        with_gradient: whether that is wanted.
    """
    total = torch.zeros((), dtype=torch.float32, device=hidden.device)
    right = torch.zeros((), dtype=torch.float32, device=hidden.device)
    gradient = torch.empty_like(hidden) if with_gradient else None
    with torch.no_grad():
        for begin in range(0, hidden.shape[0], _PIECE):
            piece = slice(begin, begin + _PIECE)
            logits = hidden[piece] @ matrix.t()
            losses, guessed, residue = _cross_entropy(logits, targets[piece])
            total += losses.sum()
            right += guessed.sum()
            if gradient is not None:
                torch.mm(residue, matrix, out=gradient[piece])
    return HeadLoss(total, right, gradient)


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
