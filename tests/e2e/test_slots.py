"""vLLM's scheduler with and without ``QuickSlots``, side by side on the same requests: no model, no engine process."""

import copy
import dataclasses
import random
from collections import Counter, deque
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.filterwarnings("ignore::DeprecationWarning")]  # vLLM's own, at its import

BLOCK = 4
BLOCKS = 40  # too few for all answers at once
CONTEXT = 64
ANSWERS = 8  # at once
STEP_TOKENS = 24  # so that longer prompts are computed in chunks
WORDS = 50
STOP = 0  # the token that ends an answer
AHEAD = 2  # steps that are scheduled before the first one's tokens are known
STEPS = 400
KINDS = 6  # of requests, whose answers are the same
NEW, GONE, AGAIN = (
    0.3,
    0.03,
    0.6,
)  # chances: of a request and of an abort in a step, and that a prompt begins like an earlier one
LONGEST = 40  # what a prompt adds to that


@dataclasses.dataclass
class House:
    """What all schedulers have in common; vLLM takes seconds to make it."""

    config: Any
    hasher: Any
    parameters: Any

    def scheduler(self, *specs: Any) -> Any:
        """One of its own blocks; ``specs`` in place of full attention."""
        from vllm.v1.core.sched.async_scheduler import AsyncScheduler  # noqa: PLC0415 - heavy
        from vllm.v1.kv_cache_interface import KVCacheConfig, KVCacheGroupSpec  # noqa: PLC0415
        from vllm.v1.structured_output import StructuredOutputManager  # noqa: PLC0415

        groups = [KVCacheGroupSpec([f"layer {number}"], spec) for number, spec in enumerate(specs or (self.full(),))]
        return AsyncScheduler(
            vllm_config=self.config,
            kv_cache_config=KVCacheConfig(num_blocks=BLOCKS, kv_cache_tensors=[], kv_cache_groups=groups),
            structured_output_manager=StructuredOutputManager(self.config),
            block_size=BLOCK,
            log_stats=True,
        )

    def full(self) -> Any:
        """Attention to everything before."""
        from vllm.v1.kv_cache_interface import FullAttentionSpec  # noqa: PLC0415

        return FullAttentionSpec(block_size=BLOCK, num_kv_heads=1, head_size=1, dtype=self.config.model_config.dtype)

    def sliding(self) -> Any:
        """Attention to the last tokens."""
        from vllm.v1.kv_cache_interface import SlidingWindowSpec  # noqa: PLC0415

        return SlidingWindowSpec(
            block_size=BLOCK, num_kv_heads=1, head_size=1, dtype=self.config.model_config.dtype, sliding_window=8
        )


@pytest.fixture(scope="module")
def house(base_model_dir: Path) -> House:
    """As a card's engine has it, but small."""
    from vllm import AsyncEngineArgs, SamplingParams  # noqa: PLC0415
    from vllm.utils.hashing import sha256  # noqa: PLC0415
    from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash  # noqa: PLC0415

    arguments = AsyncEngineArgs(
        model=str(base_model_dir),
        dtype="float32",
        max_model_len=CONTEXT,
        max_num_seqs=ANSWERS,
        max_num_batched_tokens=STEP_TOKENS,
        enable_prefix_caching=True,
    )
    config = arguments.create_engine_config()
    config.cache_config.num_gpu_blocks = BLOCKS
    init_none_hash(sha256)
    return House(
        config,
        get_request_block_hasher(BLOCK, sha256),
        SamplingParams(max_tokens=2 * CONTEXT, stop_token_ids=[STOP], ignore_eos=True),
    )


class Engine:
    """A scheduler whose model says what a request's name and the place of the token lead to."""

    def __init__(self, house: House, seed: int) -> None:
        self.scheduler = house.scheduler()
        self._house = house
        self._seed = seed
        self._planned: deque[tuple[Any, Any]] = deque()
        self.said: dict[str, list[int]] = {}
        self.ended: list[tuple[str, str]] = []
        self.chunks = 0

    def ask(self, name: str, prompt: list[int]) -> None:
        """A request comes in."""
        self.said[name] = []
        self.scheduler.add_request(self.request(name, prompt))

    def request(self, name: str, prompt: list[int]) -> Any:
        """One whose blocks may be shared."""
        from vllm.v1.request import Request  # noqa: PLC0415

        return Request(name, prompt, self._house.parameters, None, arrival_time=0.0, block_hasher=self._house.hasher)

    def abort(self, name: str) -> None:
        """Its client is gone."""
        from vllm.v1.request import RequestStatus  # noqa: PLC0415

        self.scheduler.finish_requests(name, RequestStatus.FINISHED_ABORTED)

    def step(self) -> Any:
        """Schedule ahead, and take the tokens of the step that is due; what was scheduled."""
        planned = self.scheduler.schedule()
        requests = self.scheduler.requests
        sampled = {name for name in planned.num_scheduled_tokens if not requests[name].is_prefill_chunk}
        self.chunks += len(planned.num_scheduled_tokens) - len(sampled)
        self._planned.append((planned, sampled))
        if len(self._planned) == AHEAD:
            self._update(*self._planned.popleft())
        return planned

    def _update(self, planned: Any, sampled: set[str]) -> None:
        from vllm.v1.outputs import ModelRunnerOutput  # noqa: PLC0415

        names = list(planned.num_scheduled_tokens)
        words = [[self._word(name)] if name in sampled else [] for name in names]
        output = ModelRunnerOutput(
            req_ids=names,
            req_id_to_index={name: place for place, name in enumerate(names)},
            sampled_token_ids=words,
        )
        for of_client in self.scheduler.update_from_output(planned, output).values():
            for answer in of_client.outputs:
                self.said[answer.request_id] += answer.new_token_ids
                if answer.finish_reason is not None:
                    self.ended.append((answer.request_id, answer.finish_reason.name))

    def _word(self, name: str) -> int:
        """The same for all of a kind, at the same place; sometimes the last."""
        kind, place = name.partition("-")[0], len(self.said[name])
        return random.Random(f"{self._seed} {kind} {place}").randrange(WORDS)  # noqa: S311 - no secret

    def held(self) -> Any:
        """Every block: whose it is, how many have it, what it may be shared for, and which is given away next."""
        manager = self.scheduler.kv_cache_manager
        (of_blocks,) = manager.coordinator.single_type_managers
        return (
            {name: [block.block_id for block in blocks] for name, blocks in of_blocks.req_to_blocks.items() if blocks},
            of_blocks.num_cached_block,
            [(block.ref_cnt, block.block_hash) for block in manager.block_pool.blocks],
            [block.block_id for block in manager.block_pool.free_block_queue.get_all_free_blocks()],
            manager.prefix_cache_stats,
        )


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
    """The same random requests for both, compared at every step; how often what happened."""
    from services.server.engine.card.slots import QuickSlots  # noqa: PLC0415

    chance = random.Random(seed)  # noqa: S311 - no secret
    plain, quick = Engine(house, seed), Engine(house, seed)
    manager = quick.scheduler.kv_cache_manager
    methods = ("allocate_slots", "cache_blocks")
    passed_on = [Calls(manager, method) for method in methods]
    assert QuickSlots.speed_up(manager)
    made = [Calls(manager, method) for method in methods]
    seen: Counter[str] = Counter()
    prompts: dict[str, list[int]] = {}
    for number in range(STEPS):
        if chance.random() < NEW:
            name = f"{chance.randrange(KINDS)}-{number}"
            prompts[name] = _prompt(chance, prompts, plain)
            for engine in (plain, quick):
                engine.ask(name, prompts[name])
        running = [request.request_id for request in plain.scheduler.running]
        if running and chance.random() < GONE:
            seen["aborts"] += 1
            name = chance.choice(running)
            for engine in (plain, quick):
                engine.abort(name)
        before = {request.request_id for request in plain.scheduler.running}
        planned = plain.step()
        assert planned == quick.step()
        assert plain.held() == quick.held()
        assert (plain.said, plain.ended) == (quick.said, quick.ended)
        after = {request.request_id for request in plain.scheduler.waiting}
        seen["preemptions"] += len(before & after)
        seen["cache hits"] += sum(new.num_computed_tokens > 0 for new in planned.scheduled_new_reqs)
    seen["chunks"] = plain.chunks
    seen.update(reason for _, reason in plain.ended)
    for method, all_of_them, slow in zip(methods, made, passed_on, strict=True):
        seen[f"quick {method}"] = all_of_them.count - slow.count
        seen[f"slow {method}"] = slow.count
    return seen


def _prompt(chance: random.Random, earlier: dict[str, list[int]], engine: Engine) -> list[int]:
    """A new one, or one that goes on where an earlier prompt, or its answer, was."""
    start: list[int] = []
    if earlier and chance.random() < AGAIN:
        name = chance.choice(list(earlier))
        start = (earlier[name] + engine.said[name])[: chance.randrange(CONTEXT)]
    more = [chance.randrange(1, WORDS) for _ in range(chance.randrange(1, LONGEST))]
    return (start + more)[: CONTEXT - BLOCK]


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
