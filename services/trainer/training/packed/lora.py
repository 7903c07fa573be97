"""LoRA layers with as few kernels as their arithmetic needs: a small model is bound by how many there are."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from peft.tuners.lora.layer import Linear as LoraLayer

from services.trainer.training.packed.flat import FlatWeights
from services.trainer.training.packed.gate import gated
from services.trainer.training.packed.joined import ADAPTER, Joined, base_of, is_lora
from services.trainer.training.packed.layers import replace

_SIBLINGS = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))  # given the same input by transformers' models
_GATE, _DOWN = _SIBLINGS[1], "down_proj"


class LoraLinear(torch.autograd.Function):  # type: ignore[misc]  # torch is not typed for mypy
    """Layers that share their input; the gradients of A and B are added in place, autograd is given none."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, _trained: torch.Tensor, joined: Joined) -> tuple[torch.Tensor, ...]:
        """Compute.

        Args:
            ctx: autograd's.
            x: ... x in.
            _trained: any tensor with a gradient, so that autograd calls ``backward`` where x has none.
            joined: the layers.

        Returns:
            ... x out, of each layer.
        """
        rows = joined.inputs(x)
        out = joined.forward(rows).view(*x.shape[:-1], joined.out)
        ctx.save_for_backward(rows)
        ctx.joined, ctx.shape = joined, x.shape
        return tuple(out[..., place] for place in joined.outs)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, None, None]:
        """The gradient of x; those of A and B go where the layers' are added up."""
        joined: Joined = ctx.joined
        grad = joined.backward(joined.gradients(*grads), *ctx.saved_tensors, wants_x=ctx.needs_input_grad[0])
        return None if grad is None else grad.view(ctx.shape), None, None


class _Siblings:
    """Layers that a model calls one after the other on the same input: the first computes for all."""

    def __init__(self, layers: Sequence[Any], joined: Joined, trained: torch.Tensor) -> None:
        self._layers = layers
        self._joined = joined
        self._trained = trained
        self._held: tuple[torch.Tensor, tuple[torch.Tensor, ...]] | None = None

    def forward_of(self, index: int) -> Callable[[torch.Tensor], torch.Tensor]:
        """The forward pass of one of them."""
        layer, last = self._layers[index], len(self._layers) - 1
        plain = layer.forward

        def forward(x: torch.Tensor) -> torch.Tensor:
            if any(each.disable_adapters for each in self._layers if is_lora(each)):
                out: torch.Tensor = plain(x)
                return out
            held = self._held
            if index == 0 or held is None or held[0] is not x:
                held = self._held = (x, LoraLinear.apply(x, self._trained, self._joined))
            if index == last:
                self._held = None
            return held[1][index]

        return forward


def join_kernels(model: torch.nn.Module, flat: FlatWeights) -> list[str]:
    """Let the model's plain LoRA layers compute as ``Joined``, with what shares their input; others (quantized, with dropout) stay.

    Returns:
        the names of the LoRA layers that stay.
    """
    left = []
    for parent, module in model.named_modules():
        children = dict(module.named_children())
        plain = {name: layer for name, layer in children.items() if _is_plain(layer, flat)}
        left += [f"{parent}.{name}" for name, layer in children.items() if is_lora(layer) and name not in plain]
        is_gated = _are_alike(plain, _GATE) and _DOWN in plain
        groups: list[tuple[str, ...]] = [names for names in _SIBLINGS if _are_alike(plain, names)]
        groups += [(name,) for name in plain if not any(name in names for names in groups)]
        joined: dict[tuple[str, ...], Joined] = {}
        for names in groups:
            layers = [plain[name] for name in names]
            if any(map(is_lora, layers)) or (is_gated and names in (_GATE, (_DOWN,))):
                joined[names] = Joined(layers, flat)
                siblings = _Siblings(layers, joined[names], flat.weights)
                for index, layer in enumerate(layers):
                    layer.forward = siblings.forward_of(index)
        if is_gated:
            replace(module, gated(module, joined[_GATE], joined[_DOWN,], flat.weights), base_of(plain[_GATE[0]]).weight)
    return left


def _is_plain(layer: Any, flat: FlatWeights) -> bool:
    base = base_of(layer)
    if type(base) is not torch.nn.Linear or base.weight.dtype is not flat.precision or base.weight.requires_grad:
        return False
    return not is_lora(layer) or (
        type(layer) is LoraLayer
        and list(layer.lora_A) == [ADAPTER]
        and not layer.lora_variant
        and isinstance(layer.lora_dropout[ADAPTER], torch.nn.Identity)
        and layer.lora_A[ADAPTER].bias is None
        and layer.lora_B[ADAPTER].bias is None
    )


def _are_alike(layers: dict[str, Any], names: Sequence[str]) -> bool:
    if not all(name in layers for name in names):
        return False
    found = [layers[name] for name in names]
    bases = {(base_of(layer).weight.shape[1], base_of(layer).bias is None) for layer in found}
    return len(bases) == 1 and len({layer.scaling[ADAPTER] for layer in found if is_lora(layer)}) <= 1
