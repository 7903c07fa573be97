"""vLLM's scheduler with and without ``QuickSlots``, side by side on the same requests."""

import copy
import dataclasses
from collections import Counter
from typing import Any

import pytest

from tests.e2e.schedulers import BLOCK, Engine, House, side_by_side

pytestmark = [pytest.mark.e2e, pytest.mark.filterwarnings("ignore::DeprecationWarning")]  # vLLM's own, at its import


class Calls:
    """Counts the calls of one of a manager's methods, and makes them.

    Attributes:
        count: so far.
    """

    def __init__(self, manager: Any, method: str) -> None:
        self._call = getattr(manager, method)
        self.count = 0
        setattr(manager, method, self)

    def __call__(self, *args: Any, **options: Any) -> Any:
        self.count += 1
        return self._call(*args, **options)


def run(house: House, seed: int) -> Counter[str]:
    """The same random requests with and without; how often what happened."""
    from services.server.engine.card.slots import QuickSlots  # noqa: PLC0415

    plain, quick = Engine(house, seed), Engine(house, seed)
    manager = quick.scheduler.kv_cache_manager
    methods = ("allocate_slots", "cache_blocks")
    passed_on = [Calls(manager, method) for method in methods]
    assert QuickSlots.speed_up(manager)
    made = [Calls(manager, method) for method in methods]
    seen = side_by_side(plain, quick, seed)
    for method, all_of_them, slow in zip(methods, made, passed_on, strict=True):
        seen[f"quick {method}"] = all_of_them.count - slow.count
        seen[f"slow {method}"] = slow.count
    return seen


@pytest.mark.parametrize("seed", range(5))
def test_quick_slots_change_no_step_and_no_block(house: House, seed: int) -> None:
    """Whatever is asked, ends, is aborted or sent back to wait: the same plans, blocks and shared beginnings, most of them at once."""
    seen = run(house, seed)
    assert min(seen[what] for what in ("aborts", "preemptions", "cache hits", "chunks", "STOP", "LENGTH")) > 0, seen
    assert seen["quick allocate_slots"] > seen["slow allocate_slots"] > 0
    assert seen["quick cache_blocks"] > seen["slow cache_blocks"]


def test_blocks_that_were_filled_without_being_shared_are_shared_when_told(house: House) -> None:
    """vLLM's scheduler leaves nothing for ``cache_blocks`` as long as it does not guess tokens; what it leaves is done."""
    from services.server.engine.card.slots import QuickSlots  # noqa: PLC0415

    engine = Engine(house, 0)
    manager = engine.scheduler.kv_cache_manager
    assert QuickSlots.speed_up(manager)
    first, again = (engine.request(name, list(range(1, 4 * BLOCK))) for name in ("0-first", "0-again"))
    manager.allocate_slots(first, first.num_tokens, delay_cache_blocks=True)
    assert manager.get_computed_blocks(again)[1] == 0
    manager.cache_blocks(first, BLOCK - 1)
    assert manager.get_computed_blocks(again)[1] == 0
    for full in (1, 3):
        manager.cache_blocks(first, full * BLOCK)
        assert manager.get_computed_blocks(again)[1] == full * BLOCK


def test_more_than_a_tokens_own_slot_is_asked_of_vllm(house: House) -> None:
    """Slots for guesses, which are no part of an engine here."""
    from services.server.engine.card.slots import QuickSlots  # noqa: PLC0415

    engine = Engine(house, 0)
    manager = engine.scheduler.kv_cache_manager
    assert QuickSlots.speed_up(manager)
    request = engine.request("0-first", list(range(1, BLOCK + 2)))
    manager.allocate_slots(request, BLOCK + 1)
    request.num_computed_tokens = BLOCK + 1
    for guesses, blocks in ((0, 0), (2 * BLOCK, 2)):
        assert len(manager.allocate_slots(request, 1, num_lookahead_tokens=guesses).blocks[0]) == blocks


def test_caches_of_another_kind_are_left_alone(house: House) -> None:
    """A window that slides, layers of two kinds, nothing shared, the last tokens to be computed again, somebody's own manager."""
    from vllm.v1.core.kv_cache_manager import KVCacheManager  # noqa: PLC0415

    from services.server.engine.card.slots import QuickSlots  # noqa: PLC0415

    class Own(KVCacheManager):  # type: ignore[misc]  # vLLM's types are not followed
        pass

    unshared = copy.deepcopy(house.config)
    unshared.cache_config.enable_prefix_caching = False
    own = house.scheduler().kv_cache_manager
    own.__class__ = Own
    again = house.scheduler().kv_cache_manager
    again.coordinator.num_reprefillable_tokens = 1
    for manager in (
        house.scheduler(house.sliding()).kv_cache_manager,
        house.scheduler(house.full(), house.sliding()).kv_cache_manager,
        dataclasses.replace(house, config=unshared).scheduler().kv_cache_manager,
        again,
        own,
    ):
        assert not QuickSlots.speed_up(manager)
        assert not {"allocate_slots", "cache_blocks"} & set(vars(manager))
