"""What vLLM's KV cache keeps in order for each running answer and token, at once where a token changes nothing.

A token needs a block of its own, and fills one that others may share, once in a block's size (16). vLLM works both out anew for
every answer in every step; on a busy server that was a third of the time that its scheduler takes (docs/decisions/0093).
"""

from typing import Any, Self

from vllm.v1.core.kv_cache_coordinator import UnitaryKVCacheCoordinator
from vllm.v1.core.kv_cache_manager import KVCacheManager
from vllm.v1.core.single_type_kv_cache_manager import FullAttentionManager


class QuickSlots:
    """Answers two calls of a ``KVCacheManager`` itself, and has it answer where blocks change hands.

    Args:
        manager: one that ``speed_up`` takes.

    Attributes:
        block_size: tokens of a block.
        held: a request's blocks.
    """

    def __init__(self, manager: Any) -> None:
        (of_blocks,) = manager.coordinator.single_type_managers
        self.block_size: int = of_blocks.block_size
        self.held: dict[str, list[Any]] = of_blocks.req_to_blocks
        self._shared: dict[str, int] = of_blocks.num_cached_block  # full blocks that other prompts may begin with
        self._nothing: Any = manager.empty_kv_cache_blocks
        self._allocate = manager.allocate_slots
        self._cache = manager.cache_blocks

    @classmethod
    def speed_up(cls, manager: Any) -> Self | None:
        """Put it before ``manager``, where it fits: full attention alone, whose blocks are shared whole."""
        if type(manager) is not KVCacheManager or type(manager.coordinator) is not UnitaryKVCacheCoordinator:
            return None
        (of_blocks,) = manager.coordinator.single_type_managers
        if type(of_blocks) is not FullAttentionManager or manager.coordinator.num_reprefillable_tokens:
            return None
        quick = cls(manager)
        manager.allocate_slots = quick.allocate_slots
        manager.cache_blocks = quick.cache_blocks
        return quick

    def allocate_slots(self, request: Any, num_new_tokens: int, *args: Any, **options: Any) -> Any:
        """See ``KVCacheManager.allocate_slots``."""
        if num_new_tokens == 1 and not args and options == _OF_A_RUNNING_ANSWER:
            name = request.request_id
            room = len(self.held[name]) * self.block_size
            full = request.num_tokens // self.block_size
            if request.num_computed_tokens < room and full <= self._shared.get(name, 0):
                return self._nothing
        return self._allocate(request, num_new_tokens, *args, **options)

    def cache_blocks(self, request: Any, num_computed_tokens: int) -> None:
        """See ``KVCacheManager.cache_blocks``."""
        if num_computed_tokens // self.block_size > self._shared.get(request.request_id, 0):
            self._cache(request, num_computed_tokens)


_OF_A_RUNNING_ANSWER = {"num_lookahead_tokens": 0}  # what the scheduler says for one, without speculation
