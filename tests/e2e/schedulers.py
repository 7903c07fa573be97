"""vLLM's scheduler on random requests, side by side with one that does less: no model, no engine process."""

import dataclasses
import random
from collections import Counter, deque
from pathlib import Path
from typing import Any

import pytest

BLOCK = 4
BLOCKS = 40  # too few for all answers at once
CONTEXT = 63  # no whole number of blocks
ANSWERS = 8  # at once
STEP_TOKENS = 24  # so that longer prompts are computed in chunks
WORDS = 50
STOP = 0  # the token that ends an answer
AHEAD = 2  # steps that are scheduled before the first one's tokens are known
STEPS = 400
KINDS = 12  # of requests, whose answers are the same
ADAPTERS = 3  # one more than a step holds
# Chances: in a step, of a request, of an abort and that all begin anew; and that a prompt begins like an earlier one.
NEW, GONE, RESET, AGAIN = (0.3, 0.03, 0.01, 0.6)
LONGEST = 40  # what a prompt adds to that


@dataclasses.dataclass
class House:
    """What all schedulers have in common; vLLM takes seconds to make it."""

    config: Any
    hasher: Any
    parameters: list[Any]  # a request has one of them
    blocks: int = BLOCKS
    log_stats: bool = True

    def scheduler(self, *specs: Any, kind: Any = None) -> Any:
        """One with its own blocks; ``specs`` in place of full attention, ``kind`` in place of vLLM's ``AsyncScheduler``."""
        from vllm.v1.core.sched.async_scheduler import AsyncScheduler  # noqa: PLC0415 - heavy
        from vllm.v1.kv_cache_interface import KVCacheConfig, KVCacheGroupSpec  # noqa: PLC0415
        from vllm.v1.structured_output import StructuredOutputManager  # noqa: PLC0415

        groups = [KVCacheGroupSpec([f"layer {number}"], spec) for number, spec in enumerate(specs or (self.full(),))]
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("VLLM_USE_V2_MODEL_RUNNER", "1")  # a card's
            return (kind or AsyncScheduler)(
                vllm_config=self.config,
                kv_cache_config=KVCacheConfig(num_blocks=self.blocks, kv_cache_tensors=[], kv_cache_groups=groups),
                structured_output_manager=StructuredOutputManager(self.config),
                block_size=BLOCK,
                log_stats=self.log_stats,
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


def make_house(base_model_dir: Path) -> House:
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
        enable_lora=True,
        max_loras=ADAPTERS - 1,
    )
    config = arguments.create_engine_config()
    config.cache_config.num_gpu_blocks = BLOCKS
    init_none_hash(sha256)
    return House(
        config,
        get_request_block_hasher(BLOCK, sha256),
        [
            SamplingParams(max_tokens=2 * CONTEXT, stop_token_ids=[STOP], ignore_eos=True),
            SamplingParams(max_tokens=CONTEXT // 4),
            SamplingParams(max_tokens=2 * CONTEXT, stop_token_ids=[STOP], logprobs=1),
        ],
    )


class Scores:
    """Log-probabilities of a step, each request's known by its name."""

    def __init__(self, names: list[str]) -> None:
        self._names = names

    def slice_request(self, place: int, tokens: int) -> str:
        """See ``LogprobsLists.slice_request``."""
        return f"{tokens} of {self._names[place]}"


class Engine:
    """A scheduler whose model says what a request's name and the place of the token lead to."""

    def __init__(self, house: House, seed: int, kind: Any = None) -> None:
        self.scheduler = house.scheduler(kind=kind)
        self._house = house
        self._seed = seed
        self._planned: deque[tuple[Any, Any]] = deque()
        self.said: dict[str, list[int]] = {}
        self.ended: list[tuple[str, str]] = []
        self.beside: list[tuple[Any, ...]] = []
        self.chunks = 0

    def ask(self, name: str, prompt: list[int]) -> None:
        """A request comes in."""
        self.said[name] = []
        self.scheduler.add_request(self.request(name, prompt))

    def request(self, name: str, prompt: list[int]) -> Any:
        """One whose blocks may be shared."""
        from vllm.lora.request import LoRARequest  # noqa: PLC0415
        from vllm.v1.request import Request  # noqa: PLC0415

        kind = int(name.partition("-")[0])
        adapter = max(0, kind - (KINDS - ADAPTERS) + 1)  # of most kinds it is the base
        lora = LoRARequest(f"adapter {adapter}", adapter, "/nowhere") if adapter else None
        parameters = self._house.parameters[kind % len(self._house.parameters)]
        hasher = self._house.hasher
        return Request(name, prompt, parameters, None, arrival_time=0.0, lora_request=lora, block_hasher=hasher)

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
            logprobs=Scores(names),
        )
        for of_client in self.scheduler.update_from_output(planned, output).values():
            for answer in of_client.outputs:
                self.said[answer.request_id] += answer.new_token_ids
                events = [event.type.name for event in answer.events or ()]
                length = len(self.said[answer.request_id])
                self.beside.append((answer.request_id, length, events, answer.prefill_stats, answer.new_logprobs))
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


def side_by_side(plain: Engine, other: Engine, seed: int) -> Counter[str]:
    """The same random requests for both, compared at every step; how often what happened."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    seen: Counter[str] = Counter()
    prompts: dict[str, list[int]] = {}
    for number in range(STEPS):
        if chance.random() < NEW:
            name = f"{chance.randrange(KINDS)}-{number}"
            prompts[name] = _prompt(chance, prompts, plain)
            for engine in (plain, other):
                engine.ask(name, prompts[name])
        running = [request.request_id for request in plain.scheduler.running]
        if running and chance.random() < GONE:
            seen["aborts"] += 1
            name = chance.choice(running)
            for engine in (plain, other):
                engine.abort(name)
        if chance.random() < RESET:
            seen["resets"] += 1
            for engine in (plain, other):
                engine.scheduler.reset_prefix_cache(reset_running_requests=True)
        before = {request.request_id for request in plain.scheduler.running}
        planned = plain.step()
        assert planned == other.step()
        assert plain.held() == other.held()
        assert (plain.said, plain.ended) == (other.said, other.ended)
        assert sorted(plain.beside, key=str) == sorted(other.beside, key=str)
        after = {request.request_id for request in plain.scheduler.waiting}
        seen["preemptions"] += len(before & after)
        seen["cache hits"] += sum(new.num_computed_tokens > 0 for new in planned.scheduled_new_reqs)
    seen["chunks"] = plain.chunks
    seen.update(reason for _, reason in plain.ended)
    return seen


def _prompt(chance: random.Random, earlier: dict[str, list[int]], engine: Engine) -> list[int]:
    """A new one, or one that goes on where an earlier prompt, or its answer, was."""
    start: list[int] = []
    if earlier and chance.random() < AGAIN:
        name = chance.choice(list(earlier))
        start = (earlier[name] + engine.said[name])[: chance.randrange(CONTEXT)]
    more = [chance.randrange(1, WORDS) for _ in range(chance.randrange(1, LONGEST))]
    return (start + more)[: CONTEXT - BLOCK]
