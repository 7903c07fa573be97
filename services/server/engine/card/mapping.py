"""Which token of a step is whose adapter's, worked out without waiting for the card.

vLLM sorts and counts a step's tokens on the card and then asks it for the counts: the engine's process waits for every step before
this one, whenever a prompt has begun or an answer has ended. Numbers are small enough for numpy, and what the card holds already,
as where all answers are one adapter's, is not sent again (docs/decisions/0115).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from vllm.lora.punica_wrapper.punica_gpu import PunicaWrapperGPU
from vllm.utils.torch_utils import async_tensor_h2d

Numbers = npt.NDArray[Any]

NO_ADAPTER = -1
_ALIGNED = 4  # of int32: 16 bytes, as the kernels were compiled for


class Filled:
    """The beginning of a tensor on the card, which nobody else fills.

    Args:
        tensor: [rows], of whole numbers.
    """

    def __init__(self, tensor: torch.Tensor) -> None:
        self._tensor = tensor
        self._sent: Numbers = np.empty(len(tensor), dtype=torch.empty(0, dtype=tensor.dtype).numpy().dtype)
        self._known = 0

    def fill(self, numbers: Numbers) -> None:
        """Have its first rows hold ``numbers``; from pinned memory, so that nobody waits."""
        count = len(numbers)
        sent = self._sent[:count]
        if count <= self._known and np.array_equal(sent, numbers):
            return
        sent[:] = numbers
        self._known = max(self._known, count)
        async_tensor_h2d(sent, out=self._tensor[:count])


class Counted:
    """What vLLM's kernels read of a step's rows; see its ``LoRAKernelMeta``.

    Args:
        meta: whose tensors are filled; it gets others for the short ones, which lie together, so that one transfer brings them.
        short: [3, places], int32 on the card; the rows become what is active, how many rows each has, and where they start.
    """

    def __init__(self, meta: Any, short: torch.Tensor) -> None:
        self._meta = meta
        self._places = len(meta.active_lora_ids)
        self._slots = Filled(meta.token_lora_mapping)
        self._order = Filled(meta.token_indices_sorted_by_lora_ids)
        meta.active_lora_ids, meta.num_tokens_per_lora = short[0, : self._places], short[1, : self._places]
        meta.lora_token_start_loc = short[2, : self._places + 1]

    def fill(self, slots: Numbers, short: Numbers) -> None:
        """Sort rows by slot.

        Args:
            slots: [rows], of each row's adapter, or -1.
            short: gets what is to be sent of the short ones.
        """
        meta = self._meta
        short[0, : self._places] = NO_ADAPTER
        short[1:] = 0
        found, order, counts = _sorted(slots)
        active = len(found)
        if active == 0 or (active == 1 and found[0] == NO_ADAPTER):
            active = 0  # vLLM leaves the rest as it is, which no kernel reads then
        else:
            short[0, :active] = found
            short[1, :active] = counts
            short[2, 1 : active + 1] = np.cumsum(counts)
            self._slots.fill(slots)
            self._order.fill(order)
            captured: list[int] = meta.captured_lora_counts
            active = min((count for count in captured if count >= active), default=active)
        meta.no_lora_flag_cpu[0] = active == 0
        meta.num_active_loras_cpu[0] = active


class QuickMapping:
    """Updates a ``PunicaWrapperGPU`` as it would itself.

    Args:
        wrapper: one before which ``speed_up`` puts it.
    """

    def __init__(self, wrapper: Any) -> None:
        self._wrapper = wrapper
        # Everything that vLLM's own method fills, whether a layer of this model reads it or not
        self._tokens = Filled(wrapper._token_lora_indices)  # noqa: SLF001
        self._embeddings = Filled(wrapper._embeddings_indices)  # noqa: SLF001
        self._prompts = Filled(wrapper._sampler_indices)  # noqa: SLF001
        self._padded = Filled(wrapper._sampler_indices_padded)  # noqa: SLF001
        metas = (wrapper.token_mapping_meta, wrapper.prompt_mapping_meta)
        places = -(-(len(metas[0].active_lora_ids) + 1) // _ALIGNED) * _ALIGNED
        short = torch.zeros((len(metas), 3, places), dtype=torch.int32, device=wrapper.device)
        self._of_tokens, self._of_prompts = (Counted(*each) for each in zip(metas, short, strict=True))
        self._short, self._next = Filled(short.view(-1)), np.zeros(short.shape, np.int32)

    @classmethod
    def speed_up(cls, wrapper: Any) -> bool:
        """Put it before ``wrapper``, which has not been used; whether it fits there."""
        if type(wrapper) is not PunicaWrapperGPU:
            return False
        wrapper.update_metadata = cls(wrapper).update_metadata
        return True

    def update_metadata(
        self, mapping: Any, lora_index_to_id: list[int | None], max_loras: int, vocab_size: int, **_: Any
    ) -> None:
        """See ``PunicaWrapperGPU.update_metadata``.

        Raises:
            KeyError: an adapter is in no slot.
        """
        wrapper = self._wrapper
        wrapper.is_prefill = mapping.is_prefill
        tokens = slots_of(mapping.index_mapping, lora_index_to_id)
        prompts = slots_of(mapping.prompt_mapping, lora_index_to_id)
        rows = len(prompts)
        self._tokens.fill(tokens)
        self._embeddings.fill(np.maximum(tokens, 0) * vocab_size)
        self._prompts.fill(prompts)
        self._padded.fill(np.arange(rows) + np.where(prompts == NO_ADAPTER, max_loras - 1, prompts) * rows)
        self._of_tokens.fill(tokens, self._next[0])
        self._of_prompts.fill(prompts, self._next[1])
        self._short.fill(self._next.reshape(-1))
        wrapper.indices_len[:] = [len(tokens), rows, rows, len(tokens)]


def slots_of(adapters: Sequence[int], held: Sequence[int | None]) -> Numbers:
    """The slot of each row's adapter.

    Args:
        adapters: [rows], engine ids, 0 for none.
        held: the engine id in each slot, or None.

    Raises:
        KeyError: an adapter is in no slot.
    """
    places: dict[int, int] = {held_id: slot for slot, held_id in enumerate(held) if held_id is not None}
    ids = np.fromiter(adapters, np.int64, len(adapters))
    slots = np.empty(len(ids), np.int64)
    for engine_id in np.unique(ids).tolist():
        slots[ids == engine_id] = places[engine_id] if engine_id > 0 else NO_ADAPTER
    return slots


def _sorted(slots: Numbers) -> tuple[Numbers, Numbers, Numbers]:
    """The slots that occur, ascending; rows by slot; how many rows each has."""
    if len(slots) and (slots == slots[0]).all():
        return slots[:1], np.arange(len(slots)), np.array([len(slots)])
    found, counted = np.unique(slots, return_counts=True)
    return found, np.argsort(slots, kind="stable"), counted
