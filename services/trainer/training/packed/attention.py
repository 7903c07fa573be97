"""Attention over rows that are joined end to end: each token sees its own row up to itself, and no other row."""

import itertools
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

NAME = "whetstone_packed"


def packed_attention(  # noqa: PLR0913 - transformers decides
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    edges: torch.Tensor,
    longest: int,
    scaling: float | None = None,
    dropout: float = 0.0,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Attend within rows.

    Args:
        module: unused, as ``attention_mask`` is: the edges say what may be seen.
        query: 1 x heads x T x width.
        key: 1 x key heads x T x width; the number of heads is a multiple of that of the key heads.
        value: as ``key``.
        attention_mask: see ``module``.
        edges: see ``Pass``.
        longest: see ``Pass``.
        scaling: of the scores; 1/sqrt(width) where None.
        dropout: of the probabilities.
        others: what some models hand to attention; a sliding window or a cap on the scores is refused by its name.

    Returns:
        1 x T x heads x width, and no probabilities.
    """
    del module, attention_mask
    if unknown := [name for name in ("sliding_window", "softcap", "s_aux") if others.get(name) is not None]:
        raise NotImplementedError(f"packed attention knows no {', '.join(unknown)}")
    if query.is_cuda:
        return _on_card(query, key, value, edges, longest, scaling, dropout), None
    bounds = edges.tolist()
    rows = [
        scaled_dot_product_attention(
            query[:, :, begin:end],
            key[:, :, begin:end],
            value[:, :, begin:end],
            dropout_p=dropout,
            is_causal=True,
            scale=scaling,
            enable_gqa=query.shape[1] != key.shape[1],
        )
        for begin, end in itertools.pairwise(bounds)
        if begin < end
    ]
    return torch.cat(rows, dim=2).transpose(1, 2), None


def _on_card(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    edges: torch.Tensor,
    longest: int,
    scaling: float | None,
    dropout: float,
) -> torch.Tensor:
    """FlashAttention's kernel for rows of different lengths (Dao, https://arxiv.org/abs/2307.08691), as PyTorch ships it."""
    q, k, v = (each[0].transpose(0, 1) for each in (query, key, value))
    out = torch.ops.aten._flash_attention_forward(  # noqa: SLF001 - PyTorch has no public name for it in 2.11
        q, k, v, edges, edges, longest, longest, dropout, is_causal=True, return_debug_mask=False, scale=scaling
    )
    attended: torch.Tensor = out[0]
    return attended.unsqueeze(0)


AttentionInterface.register(NAME, packed_attention)
