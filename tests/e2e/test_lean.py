"""vLLM's scheduler and the one that does less for answers that merely go on, side by side on the same requests."""

import dataclasses
from typing import Any

import pytest

from tests.e2e.schedulers import BLOCKS, Engine, House, side_by_side

pytestmark = [pytest.mark.e2e, pytest.mark.filterwarnings("ignore::DeprecationWarning")]  # vLLM's own, at its import


class Counted:
    """Adds up how many answers a scheduler's method left to vLLM, and how many it did not.

    Attributes:
        lean: were done at once.
        others: went vLLM's way.
    """

    def __init__(self, scheduler: Any, method: str) -> None:
        self._call = getattr(scheduler, method)
        self.lean = self.others = 0
        setattr(scheduler, method, self)

    def __call__(self, *arguments: Any) -> Any:
        done, others = self._call(*arguments)
        of_clients = done.values() if isinstance(done, dict) else [done]
        self.lean += sum(map(len, of_clients))
        self.others += len(others)
        return done, others


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("blocks", [BLOCKS, 10 * BLOCKS])
def test_lean_scheduler_plans_and_tells_the_same(house: House, seed: int, blocks: int) -> None:
    """Whatever is asked, ends, is aborted or sent back to wait, of more adapters than a step holds: the same plans, blocks and words."""
    from services.server.engine.card.lean import LeanScheduler  # noqa: PLC0415 - heavy

    house = dataclasses.replace(house, blocks=blocks, log_stats=seed % 2 == 0)
    plain, lean = Engine(house, seed), Engine(house, seed, LeanScheduler)
    planned, told = (Counted(lean.scheduler, method) for method in ("_parted", "_told"))
    seen = side_by_side(plain, lean, seed)
    assert min(seen[what] for what in ("aborts", "cache hits", "chunks", "STOP", "LENGTH")) > 0, seen
    assert min(planned.others, told.lean, told.others) > 100, vars(planned) | vars(told)
    if blocks == BLOCKS:
        assert seen["preemptions"] > 0
    else:
        assert planned.lean > 100, vars(planned)
