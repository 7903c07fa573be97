"""Every trained weight in one tensor, and every gradient in another: one kernel clips, one updates, one call reduces."""

import itertools
from typing import Any, NamedTuple

import torch

from services.trainer.training.ranks import Ranks


class Used(NamedTuple):
    """A trained weight as arithmetic takes it, and where its gradient is added; both in the arithmetic's precision."""

    weight: torch.Tensor
    gradient: torch.Tensor


class FlatWeights:
    """Moves a model's trained weights into one float32 tensor; the model goes on with views of it.

    Where arithmetic is done in less, a copy in that precision is kept beside, made anew by ``refresh``, so that no layer rounds
    its own.

    Args:
        model: on its device; its trained weights are float32.
        precision: of the arithmetic.
        told: how many numbers ``told`` holds.

    Attributes:
        weights: all of them, as a parameter that an optimizer takes.
        gradient: of ``weights``.
        told: numbers that are added up over ranks together with the gradient.
        precision: see above.
    """

    def __init__(self, model: torch.nn.Module, precision: torch.dtype = torch.float32, *, told: int = 0) -> None:
        named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
        named.sort(key=lambda each: ".lora_B." in each[0])  # so that the As of layers that share an input are adjacent
        trained = [parameter for _, parameter in named]
        self.weights = torch.nn.Parameter(torch.cat([parameter.detach().reshape(-1).float() for parameter in trained]))
        self._added_up = torch.zeros(self.weights.numel() + told, device=self.weights.device)
        self.gradient, self.told = self._added_up[: self.weights.numel()], self._added_up[self.weights.numel() :]
        self.weights.grad = self.gradient
        self.precision = precision
        self._is_rounded = precision is not torch.float32
        self._used = self.weights.data.to(precision)  # the weights themselves where that is float32
        self._used_gradient = torch.zeros_like(self._used) if self._is_rounded else self.gradient
        self._places: dict[torch.Tensor, slice] = {}
        begin = 0
        for parameter in trained:
            place = slice(begin, begin + parameter.numel())
            parameter.data = self.weights.data[place].view(parameter.shape)
            parameter.grad = self.gradient[place].view(parameter.shape)
            self._places[parameter] = place
            begin = place.stop

    def used(self, *parameters: torch.Tensor) -> Used:
        """Views of the arithmetic's copies of one of the model's trained weights, or of several stacked.

        Raises:
            ValueError: they are not adjacent.
        """
        places = [self._places[parameter] for parameter in parameters]
        if any(before.stop != after.start for before, after in itertools.pairwise(places)):
            raise ValueError("weights that are used together lie apart")
        place = slice(places[0].start, places[-1].stop)
        shape = (-1, *parameters[0].shape[1:])
        return Used(self._used[place].view(shape), self._used_gradient[place].view(shape))

    def refresh(self) -> None:
        """Round the weights for the arithmetic of a pass, and forget what was added to its gradient."""
        if self._is_rounded:
            self._used.copy_(self.weights.data)
            self._used_gradient.zero_()

    def add_up(self) -> None:
        """Add a pass's gradient to the update's."""
        if self._is_rounded:
            self.gradient.add_(self._used_gradient)

    def over_ranks(self, ranks: Ranks) -> None:
        """Make the gradient and ``told`` sums over ranks, in one message."""
        ranks.add_up(self._added_up)

    def clear(self, *_: Any, **__: Any) -> None:
        """Forget the gradients, in place: the model's views stay."""
        self.gradient.zero_()

    def clip(self, most: float) -> torch.Tensor:
        """Scale the gradient to a norm of at most ``most``; 0 does not.

        Returns:
            the norm before.
        """
        norm = self.gradient.norm()
        if most > 0:
            self.gradient.mul_((most / (norm + 1e-6)).clamp(max=1.0))
        return norm
