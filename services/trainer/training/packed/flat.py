"""Every trained weight in one tensor, and every gradient in another: one kernel clips, one updates, one call reduces."""

import itertools
from typing import Any

import torch

from services.trainer.training.ranks import Ranks


class FlatWeights:
    """Moves a model's trained weights into one float32 tensor; the model goes on with views of it.

    Layers that take a weight in another place, or in another precision, name the place: ``refresh`` writes it anew for each pass.

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
        self._of_pass = torch.zeros_like(self.gradient, dtype=precision) if self._is_rounded else self.gradient
        self._written: list[tuple[slice, torch.Tensor]] = []
        self._writer: Any = None
        self._places: dict[torch.Tensor, slice] = {}
        begin = 0
        for parameter in trained:
            place = slice(begin, begin + parameter.numel())
            parameter.data = self.weights.data[place].view(parameter.shape)
            parameter.grad = self.gradient[place].view(parameter.shape)
            self._places[parameter] = place
            begin = place.stop

    def gradient_of(self, *parameters: torch.Tensor) -> torch.Tensor:
        """Where the gradient of a pass is added, for one of the model's trained weights or for several stacked; in the arithmetic's precision.

        Raises:
            ValueError: they are not adjacent.
        """
        places = [self._places[parameter] for parameter in parameters]
        if any(before.stop != after.start for before, after in itertools.pairwise(places)):
            raise ValueError("weights that are used together lie apart")
        return self._of_pass[places[0].start : places[-1].stop].view(-1, *parameters[0].shape[1:])

    def write(self, parameter: torch.Tensor, place: torch.Tensor) -> None:
        """Keep a weight in a second place, too.

        Args:
            parameter: one of the model's trained weights, of rows x columns.
            place: of the same shape, its columns without gaps, in the arithmetic's precision.
        """
        place.copy_(parameter.data)
        self._written.append((self._places[parameter], place))
        self._writer = None

    def refresh(self) -> None:
        """Write the weights where a pass takes them, and forget what was added to its gradient."""
        if self._is_rounded:
            self._of_pass.zero_()
        if self.weights.is_cuda and self._written:
            from services.trainer.training.packed.kernels import Writer  # noqa: PLC0415 - Triton, a card's only

            self._writer = self._writer or Writer(self._written, self.weights.device)
            self._writer(self.weights.data)
            return
        for source, place in self._written:
            place.copy_(self.weights.data[source].view(place.shape))

    def add_up(self) -> None:
        """Add a pass's gradient to the update's."""
        if self._is_rounded:
            self.gradient.add_(self._of_pass)

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
