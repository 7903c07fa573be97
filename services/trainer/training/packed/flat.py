"""Every trained weight in one tensor, and every gradient in another: one kernel clips, one updates, one call reduces."""

from typing import Any

import torch


class FlatWeights:
    """Moves a model's trained weights into one float32 tensor; the model goes on with views of it.

    Args:
        model: on its device; its trained weights are float32.

    Attributes:
        weights: all of them, as a parameter that an optimizer takes.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.weights = torch.nn.Parameter(torch.cat([parameter.detach().reshape(-1).float() for parameter in trained]))
        self.gradient = torch.zeros_like(self.weights.data)
        self.weights.grad = self.gradient
        begin = 0
        for parameter in trained:
            end = begin + parameter.numel()
            parameter.data = self.weights.data[begin:end].view(parameter.shape)
            parameter.grad = self.gradient[begin:end].view(parameter.shape)
            begin = end

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
