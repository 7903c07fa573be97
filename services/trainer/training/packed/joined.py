"""Frozen weights with LoRA's A and B around them in one matrix: one product computes both."""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import torch

from services.trainer.training.packed.flat import FlatWeights

ADAPTER = "default"  # PEFT's name of a model's only adapter
_ALIGNED = 64  # columns: what a card's matrix units take at once


class Joined:
    """Linear layers that share their input, each with a LoRA (Hu et al., https://arxiv.org/abs/2106.09685) or without one.

    A product with a narrow A or B costs what its wide side costs to move, and adding it up moves that once more. So they ride along::

        J = | W1 B1 0  |        y  = [x, low] J[:out]'           low = scaling x A'
            | W2 0  B2 |        dx = [dy, dlow] J[:, :in]        dlow = scaling dy B
            | A1       |
            | A2       |

    Inputs and gradients come as T rows with ``room`` spare columns for ``low`` and ``dlow``. Gradients of A and B are added where
    the optimizer reads them.

    Args:
        layers: PEFT's or PyTorch's own; of one input width and one scaling, all with a bias or none; their weights become views of J.
        flat: the model's trained weights, which write A and B into J.
    """

    def __init__(self, layers: Sequence[Any], flat: FlatWeights) -> None:
        bases = [base_of(layer) for layer in layers]
        trained = [layer for layer in layers if is_lora(layer)]
        weight = bases[0].weight
        self.width: int = weight.shape[1]
        self.outs = list(_slices(base.weight.shape[0] for base in bases))
        self.out = self.outs[-1].stop
        ranks = [layer.lora_A[ADAPTER].weight.shape[0] if is_lora(layer) else 0 for layer in layers]
        lows = list(_slices(ranks))
        self._rank = lows[-1].stop
        self.room = _rounded_up(self.width + self._rank, weight) - self.width if trained else 0
        self._scaling: float = trained[0].scaling[ADAPTER] if trained else 1.0
        self._matrix = weight.new_zeros(self.out + self.room, self.width + self.room)
        for base, place in zip(bases, self.outs, strict=True):
            self._matrix[place, : self.width] = base.weight.data
            base.weight.data = self._matrix[place, : self.width]
        self._bias = None if bases[0].bias is None else torch.cat([base.bias.data for base in bases])
        self._b: list[tuple[slice, slice, torch.Tensor]] = []
        for layer, place, low in zip(layers, self.outs, lows, strict=True):
            if is_lora(layer):
                a, b = layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight
                flat.write(a, self._matrix[self.out + low.start : self.out + low.stop, : self.width])
                flat.write(b, self._matrix[place, self.width + low.start : self.width + low.stop])
                self._b.append((place, low, flat.gradient_of(b)))
        self._a_gradient = flat.gradient_of(*(layer.lora_A[ADAPTER].weight for layer in trained)) if trained else None

    def inputs(self, x: torch.Tensor) -> torch.Tensor:
        """T rows for ``forward``, of ... x in."""
        return _copied([x], self.empty_inputs(x.numel() // self.width))

    def gradients(self, *dy: torch.Tensor) -> torch.Tensor:
        """T rows for ``backward``, of a gradient ... x out for each layer."""
        return _copied(dy, self.empty_gradients(dy[0].numel() // dy[0].shape[-1]))

    def empty_inputs(self, rows: int) -> torch.Tensor:
        """The same without values."""
        return self._matrix.new_empty(rows, self.width + self.room)

    def empty_gradients(self, rows: int) -> torch.Tensor:
        """The same without values."""
        return self._matrix.new_empty(rows, self.out + self.room)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The layers' results.

        Args:
            x: T x (in + room); the room is written.

        Returns:
            T x out, side by side as ``outs`` says.
        """
        if self.room:
            a = self._matrix[self.out :, : self.width]
            x[:, self.width :].addmm_(x[:, : self.width], a.t(), beta=0, alpha=self._scaling)
        weight = self._matrix[: self.out].t()
        return x @ weight if self._bias is None else torch.addmm(self._bias, x, weight)

    def backward(self, dy: torch.Tensor, x: torch.Tensor, *, wants_x: bool = True) -> torch.Tensor | None:
        """Add up the gradients of A and B.

        Args:
            dy: T x (out + room); the room is written.
            x: what ``forward`` left.
            wants_x: whether that of x is wanted.

        Returns:
            that of x, T x in.
        """
        if self._a_gradient is not None:
            b = self._matrix[: self.out, self.width :]
            dy[:, self.out :].addmm_(dy[:, : self.out], b, beta=0, alpha=self._scaling)
            for place, low, gradient in self._b:
                gradient.addmm_(dy[:, place].t(), x[:, self.width + low.start : self.width + low.stop])
            self._a_gradient.addmm_(dy[:, self.out : self.out + self._rank].t(), x[:, : self.width])
        return dy @ self._matrix[:, : self.width] if wants_x else None


def is_lora(layer: Any) -> bool:
    """Whether it is one of PEFT's layers."""
    return hasattr(layer, "lora_A")


def base_of(layer: Any) -> Any:
    """The layer without its adapter."""
    return layer.base_layer if is_lora(layer) else layer


def _copied(parts: Iterable[torch.Tensor], rows: torch.Tensor) -> torch.Tensor:
    begin = 0
    for part in parts:
        width = part.shape[-1]
        _copy(part.reshape(-1, width), rows[:, begin : begin + width])
        begin += width
    return rows


def _copy(source: torch.Tensor, target: torch.Tensor) -> None:
    if source.is_cuda and source.stride(1) == 1:
        from services.trainer.training.packed.kernels import copy_rows  # noqa: PLC0415 - Triton, a card's only

        copy_rows(source, target)
    else:
        target.copy_(source)


def _rounded_up(columns: int, weight: torch.Tensor) -> int:
    return -(-columns // _ALIGNED) * _ALIGNED if weight.is_cuda else columns


def _slices(sizes: Iterable[int]) -> list[slice]:
    edges = [0, *itertools.accumulate(sizes)]
    return list(itertools.starmap(slice, itertools.pairwise(edges)))
