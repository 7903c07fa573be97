"""What adapters add to a layer on a processor: a product for each adapter of a step, with all of its tokens (docs/decisions/0107)."""

from typing import Any

import torch
from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU

Places = Any  # a slice, or a tensor of places


class AdapterProducts(PunicaWrapperCPU):  # type: ignore[misc]  # vLLM's types are not followed
    """vLLM's own copies A and B for every token, and gives a token of the base the last adapter's."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._parts: list[tuple[int, Places]] = []

    def update_metadata(self, *args: Any, **options: Any) -> None:
        """See ``PunicaWrapperBase.update_metadata``; once in a step."""
        super().update_metadata(*args, **options)
        self._parts = _parts(self.token_lora_indices)

    def add_lora_linear(
        self,
        y: torch.Tensor,
        x: torch.Tensor,
        lora_a_stacked: tuple[torch.Tensor, ...],
        lora_b_stacked: tuple[torch.Tensor, ...],
        scale: float,
        output_slices: tuple[int, ...],
        **_: Any,
    ) -> None:
        """See ``PunicaWrapperCPU.add_lora_linear``; y is (tokens, outputs), A (adapters, 1, rank, inputs), B (adapters, 1, outputs, rank)."""
        for adapter, places in self._parts:
            ours, end = x[places], 0
            for a, b, size in zip(lora_a_stacked, lora_b_stacked, output_slices, strict=True):
                begin, end = end, end + size
                inner = ours @ a[adapter, 0].T
                if isinstance(places, slice):
                    y[places, begin:end].addmm_(inner, b[adapter, 0].T, alpha=scale)
                else:
                    y[:, begin:end].index_add_(0, places, inner @ b[adapter, 0].T, alpha=scale)


def _parts(adapters: torch.Tensor) -> list[tuple[int, Places]]:
    """Each adapter of a step, and where its tokens are: a slice where they are neighbours.

    Args:
        adapters: of each token its adapter's place in the stacks; -1 where it has none.
    """
    found: list[tuple[int, Places]] = []
    for adapter in adapters.unique().tolist():
        if adapter >= 0:
            places = (adapters == adapter).nonzero().flatten()
            first, last = int(places[0]), int(places[-1])
            found.append((adapter, slice(first, last + 1) if last - first + 1 == len(places) else places))
    return found
