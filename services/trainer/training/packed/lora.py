"""LoRA layers with as few kernels as their arithmetic needs: a small model is bound by how many there are."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from peft.tuners.lora.layer import Linear as LoraLayer

from services.trainer.training.packed.flat import FlatWeights, Used

_ADAPTER = "default"  # PEFT's name of a model's only adapter
_SIBLINGS = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))  # given the same input by transformers' models


class Frozen:
    """What layers that share their input do not differentiate: W and bias stacked, and A and B as ``FlatWeights`` has them.

    Args:
        layers: PEFT's; of one input width and one scaling, all with a bias or none; their As adjacent in ``flat``.
        flat: the model's trained weights.
    """

    def __init__(self, layers: Sequence[Any], flat: FlatWeights) -> None:
        bases = [layer.base_layer for layer in layers]
        self.weight = _stacked([base.weight for base in bases])
        self.bias = None if bases[0].bias is None else _stacked([base.bias for base in bases])
        self.a: Used = flat.used(*(layer.lora_A[_ADAPTER].weight for layer in layers))
        self.b: list[Used] = [flat.used(layer.lora_B[_ADAPTER].weight) for layer in layers]
        self.outs = list(_slices(base.weight.shape[0] for base in bases))
        self.lows = list(_slices(layer.lora_A[_ADAPTER].weight.shape[0] for layer in layers))
        self.scaling: float = layers[0].scaling[_ADAPTER]


class LoraLinear(torch.autograd.Function):  # type: ignore[misc]  # torch is not typed for mypy
    """y = x W' + bias + scaling (x A') B', of a frozen W (Hu et al., https://arxiv.org/abs/2106.09685), for layers that share x.

    Sums and scaling ride along in the matrix products. The gradients of A and B are added in place, where the optimizer
    reads them: autograd is given none.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, _trained: torch.Tensor, frozen: Frozen) -> tuple[torch.Tensor, ...]:
        """Compute.

        Args:
            ctx: autograd's.
            x: ... x in.
            _trained: any tensor with a gradient, so that autograd calls ``backward`` where x has none.
            frozen: what is not differentiated here.

        Returns:
            ... x out, of each layer.
        """
        rows = x.reshape(-1, x.shape[-1])
        weight = frozen.weight.t()
        out = rows @ weight if frozen.bias is None else torch.addmm(frozen.bias, rows, weight)
        low = rows @ frozen.a.weight.t()
        for place, part, b in zip(frozen.outs, frozen.lows, frozen.b, strict=True):
            out[:, place].addmm_(low[:, part], b.weight.t(), alpha=frozen.scaling)
        ctx.save_for_backward(rows, low)
        ctx.frozen, ctx.shape = frozen, x.shape
        out = out.view(*x.shape[:-1], out.shape[-1])
        return tuple(out[..., place] for place in frozen.outs)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, None, None]:
        """The gradient of x; those of A and B go where the layers' are added up."""
        rows, low = ctx.saved_tensors
        frozen: Frozen = ctx.frozen
        grads = tuple(grad.reshape(-1, grad.shape[-1]) for grad in grads)
        grad_low = torch.empty_like(low)
        for grad, part, b in zip(grads, frozen.lows, frozen.b, strict=True):
            torch.mm(grad, b.weight, out=grad_low[:, part])
            b.gradient.addmm_(grad.t(), low[:, part], alpha=frozen.scaling)
        frozen.a.gradient.addmm_(grad_low.t(), rows, alpha=frozen.scaling)
        if not ctx.needs_input_grad[0]:
            return None, None, None
        grad_x = grads[0] @ frozen.weight[frozen.outs[0]]
        for grad, place in zip(grads[1:], frozen.outs[1:], strict=True):
            grad_x.addmm_(grad, frozen.weight[place])
        grad_x.addmm_(grad_low, frozen.a.weight, alpha=frozen.scaling)
        return grad_x.view(ctx.shape), None, None


class _Siblings:
    """Layers that a model calls one after the other on the same input: the first computes for all."""

    def __init__(self, layers: Sequence[Any], flat: FlatWeights) -> None:
        self._layers = layers
        self._frozen = Frozen(layers, flat)
        self._alone = [Frozen([layer], flat) for layer in layers]
        self._held: tuple[torch.Tensor, tuple[torch.Tensor, ...]] | None = None

    def forward_of(self, index: int) -> Callable[[torch.Tensor], torch.Tensor]:
        """The forward pass of one of them."""
        layer, last = self._layers[index], len(self._layers) - 1
        plain = layer.forward

        def forward(x: torch.Tensor) -> torch.Tensor:
            if layer.disable_adapters:
                out: torch.Tensor = plain(x)
                return out
            if index == 0:
                self._held = (x, self._apply(x, self._frozen))
            held = self._held
            if held is None or held[0] is not x:
                return self._apply(x, self._alone[index])[0]
            if index == last:
                self._held = None
            return held[1][index]

        return forward

    def _apply(self, x: torch.Tensor, frozen: Frozen) -> tuple[torch.Tensor, ...]:
        trained = self._layers[0].lora_A[_ADAPTER].weight
        outs: tuple[torch.Tensor, ...] = LoraLinear.apply(x.to(frozen.weight.dtype), trained, frozen)
        return outs


def join_kernels(model: torch.nn.Module, flat: FlatWeights) -> list[str]:
    """Let the model's plain LoRA layers compute by ``LoraLinear``; others (quantized, with dropout) stay as they are.

    Returns:
        the names of the layers that stay.
    """
    left = []
    for parent, layers in _lora_layers(model):
        plain = {name: layer for name, layer in layers.items() if _is_plain(layer, flat)}
        left += [f"{parent}.{name}" for name in layers if name not in plain]
        groups = [[plain.pop(name) for name in names] for names in _SIBLINGS if _are_alike(plain, names)]
        for group in (*groups, *([layer] for layer in plain.values())):
            siblings = _Siblings(group, flat)
            for index, layer in enumerate(group):
                layer.forward = siblings.forward_of(index)
    return left


def _lora_layers(model: torch.nn.Module) -> Iterator[tuple[str, dict[str, Any]]]:
    for parent, module in model.named_modules():
        layers = {name: child for name, child in module.named_children() if hasattr(child, "lora_A")}
        if layers:
            yield parent, layers


def _is_plain(layer: Any, flat: FlatWeights) -> bool:
    return (
        type(layer) is LoraLayer
        and type(layer.base_layer) is torch.nn.Linear
        and layer.base_layer.weight.dtype is flat.precision
        and list(layer.lora_A) == [_ADAPTER]
        and not layer.lora_variant
        and isinstance(layer.lora_dropout[_ADAPTER], torch.nn.Identity)
        and layer.lora_A[_ADAPTER].bias is None
        and layer.lora_B[_ADAPTER].bias is None
    )


def _are_alike(layers: dict[str, Any], names: Sequence[str]) -> bool:
    if not all(name in layers for name in names):
        return False
    found = [layers[name] for name in names]
    kinds = {
        (layer.base_layer.weight.shape[1], layer.base_layer.bias is None, layer.scaling[_ADAPTER]) for layer in found
    }
    return len(kinds) == 1


def _stacked(parameters: Sequence[torch.nn.Parameter]) -> torch.Tensor:
    """The parameters' values in one tensor; they become views of it, so that nothing is held twice."""
    if len(parameters) == 1:
        return parameters[0].data
    stacked = torch.cat([parameter.data for parameter in parameters])
    for parameter, place in zip(parameters, _slices(each.shape[0] for each in parameters), strict=True):
        parameter.data = stacked[place]
    return stacked


def _slices(sizes: Iterator[int]) -> Iterator[slice]:
    edges = [0, *itertools.accumulate(sizes)]
    return itertools.starmap(slice, itertools.pairwise(edges))
