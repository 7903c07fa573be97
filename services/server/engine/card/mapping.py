"""Which token of a step is whose adapter's, worked out without waiting for the card.

vLLM sorts and counts a step's tokens on the card and then asks it for the counts: the engine's process waits for every step before
this one, whenever a prompt has begun or an answer has ended (docs/decisions/0099). Numbers are small enough for numpy, and one copy
brings them there.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from vllm.lora.punica_wrapper.punica_gpu import PunicaWrapperGPU
from vllm.utils.torch_utils import async_tensor_h2d

Numbers = npt.NDArray[np.int64]

NO_ADAPTER = -1


class Sorted(NamedTuple):
    """What vLLM's kernels read of ``n`` rows in up to ``most`` adapters; see its ``LoRAKernelMeta``.

    Attributes:
        slots: [n], of each row's adapter, or -1.
        order: [n], rows sorted by slot.
        active: [most + 1], slots that occur, ascending; -1 behind them.
        counts: [most + 1], rows of each; 0 behind them.
        starts: [most + 2], where each begins in ``order``, and the end; 0 behind it.
    """

    slots: Numbers
    order: Numbers
    active: Numbers
    counts: Numbers
    starts: Numbers

    @classmethod
    def of(cls, slots: Numbers, most: int) -> "Sorted":
        """Sort rows by slot."""
        found, counted = np.unique(slots, return_counts=True)
        active = np.full(most + 1, NO_ADAPTER)
        counts = np.zeros(most + 1, np.int64)
        starts = np.zeros(most + 2, np.int64)
        active[: len(found)] = found
        counts[: len(found)] = counted
        starts[1 : len(found) + 1] = np.cumsum(counted)
        return cls(slots, np.argsort(slots, kind="stable"), active, counts, starts)


def slots_of(adapters: Sequence[int], held: Sequence[int | None]) -> Numbers:
    """The slot of each row's adapter.

    Args:
        adapters: engine ids, 0 for none.
        held: the engine id in each slot, or None.

    Raises:
        KeyError: an adapter is in no slot.
    """
    ids = np.array(adapters, np.int64)
    slots = np.full(len(ids), NO_ADAPTER)
    for slot, engine_id in enumerate(held):
        if engine_id is not None:
            slots[ids == engine_id] = slot
    if np.any((ids > 0) & (slots == NO_ADAPTER)):
        raise KeyError("an adapter that is in no slot")
    return slots


class QuickMapping:
    """Updates a ``PunicaWrapperGPU`` as it would itself.

    Args:
        wrapper: one that ``suits``.
    """

    def __init__(self, wrapper: Any) -> None:
        self._wrapper = wrapper

    @classmethod
    def speed_up(cls, wrapper: Any) -> bool:
        """Put it before ``wrapper``; whether it fits there."""
        if type(wrapper) is not PunicaWrapperGPU:
            return False
        wrapper.update_metadata = cls(wrapper).update_metadata
        return True

    def update_metadata(
        self, mapping: Any, lora_index_to_id: list[int | None], max_loras: int, vocab_size: int, **_: Any
    ) -> None:
        """See ``PunicaWrapperGPU.update_metadata``."""
        wrapper = self._wrapper
        wrapper.is_prefill = mapping.is_prefill
        tokens = slots_of(mapping.index_mapping, lora_index_to_id)
        prompts = slots_of(mapping.prompt_mapping, lora_index_to_id)
        rows = len(prompts)
        padded = np.arange(rows) + np.where(prompts == NO_ADAPTER, max_loras - 1, prompts) * rows
        targets = [
            wrapper._token_lora_indices,  # noqa: SLF001 - so are all that vLLM's own method fills
            wrapper._sampler_indices,  # noqa: SLF001
            wrapper._sampler_indices_padded,  # noqa: SLF001
            wrapper._embeddings_indices,  # noqa: SLF001
        ]
        numbers = [tokens, prompts, padded, np.maximum(tokens, 0) * vocab_size]
        wrapper.indices_len[:] = [len(tokens), rows, rows, len(tokens)]
        for meta, slots in ((wrapper.token_mapping_meta, tokens), (wrapper.prompt_mapping_meta, prompts)):
            more = self._sorted(meta, slots)
            targets += more[0]
            numbers += more[1]
        _copy(numbers, targets, wrapper.device)

    @staticmethod
    def _sorted(meta: Any, slots: Numbers) -> tuple[list[torch.Tensor], list[Numbers]]:
        """What is to be filled with what of a ``LoRAKernelMeta``; its flags, which the processor reads, are set."""
        most = len(meta.active_lora_ids) - 1
        counted = [meta.active_lora_ids, meta.num_tokens_per_lora, meta.lora_token_start_loc]
        found = Sorted.of(slots, most)
        none = bool(np.all(slots == NO_ADAPTER))
        meta.no_lora_flag_cpu.fill_(none)
        if none:  # vLLM empties these, and leaves the rest, which no kernel reads
            meta.num_active_loras_cpu.fill_(0)
            return counted, [np.full(most + 1, NO_ADAPTER), np.zeros(most + 1, np.int64), np.zeros(most + 2, np.int64)]
        active = int(np.count_nonzero(found.counts))
        captured: list[int] = meta.captured_lora_counts
        meta.num_active_loras_cpu.fill_(min((count for count in captured if count >= active), default=active))
        return [meta.token_lora_mapping, meta.token_indices_sorted_by_lora_ids, *counted], list(found)


def _copy(numbers: list[Numbers], targets: list[torch.Tensor], device: torch.device) -> None:
    """Fill the beginning of each target; one transfer, from pinned memory, that nobody waits for."""
    block = async_tensor_h2d(np.concatenate(numbers), device=device)
    for target, part in zip(targets, block.split([len(each) for each in numbers]), strict=True):
        target[: len(part)].copy_(part)
