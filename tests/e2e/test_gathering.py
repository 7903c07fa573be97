"""The scheduler of a card's engine, on vLLM's own: no card is needed to decide what a step holds."""

import importlib.util
from pathlib import Path

import pytest

from services.common.settings import load
from services.server.engine.card.gathering import BUSY, SHARE, STEPS
from services.server.settings import ServerSettings

pytestmark = [pytest.mark.e2e, pytest.mark.filterwarnings("ignore::DeprecationWarning")]  # vLLM's own, at its import

PROMPT = [1, 2, 3, 4]
BLOCKS = 1024


class Steps:
    """An engine's steps without its model: each running answer gains a token."""

    def __init__(self, model: Path) -> None:
        from vllm import AsyncEngineArgs  # noqa: PLC0415 - heavy
        from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec  # noqa: PLC0415
        from vllm.v1.structured_output import StructuredOutputManager  # noqa: PLC0415

        from services.server.engine.card.scheduling import GatheringScheduler  # noqa: PLC0415

        arguments = AsyncEngineArgs(model=str(model), dtype="float32", max_model_len=256, max_num_seqs=2 * BUSY)
        config = arguments.create_engine_config()
        block = config.cache_config.block_size
        config.cache_config.num_gpu_blocks = BLOCKS
        spec = FullAttentionSpec(block_size=block, num_kv_heads=1, head_size=1, dtype=config.model_config.dtype)
        self.scheduler = GatheringScheduler(
            vllm_config=config,
            kv_cache_config=KVCacheConfig(
                num_blocks=BLOCKS, kv_cache_tensors=[], kv_cache_groups=[KVCacheGroupSpec(["layer"], spec)]
            ),
            structured_output_manager=StructuredOutputManager(config),
            block_size=block,
        )

    def ask(self, *names: str) -> None:
        """Requests come in."""
        from vllm import SamplingParams  # noqa: PLC0415
        from vllm.v1.request import Request  # noqa: PLC0415

        for name in names:
            parameters = SamplingParams(max_tokens=100, ignore_eos=True)
            self.scheduler.add_request(Request(name, PROMPT, parameters, None))

    def step(self) -> set[str]:
        """The prompts that begin in the next step."""
        from vllm.v1.outputs import ModelRunnerOutput  # noqa: PLC0415

        planned = self.scheduler.schedule()
        names = list(planned.num_scheduled_tokens)
        self.scheduler.update_from_output(
            planned,
            ModelRunnerOutput(
                req_ids=names,
                req_id_to_index={name: place for place, name in enumerate(names)},
                sampled_token_ids=[[7]] * len(names),
            ),
        )
        assert len(names) >= len(self.scheduler.running) - len(
            planned.scheduled_new_reqs
        )  # nobody who runs is left out
        return {request.req_id for request in planned.scheduled_new_reqs}


@pytest.fixture
def steps(base_model_dir: Path) -> Steps:
    """Busy ones: ``BUSY`` answers have begun."""
    steps = Steps(base_model_dir)
    running = {f"running-{number}" for number in range(BUSY)}
    steps.ask(*running)
    assert steps.step() == running
    return steps


def test_prompt_of_a_busy_engine_waits_a_few_steps(steps: Steps) -> None:
    """Not for ever; who comes meanwhile begins in the same step."""
    steps.ask("first")
    assert steps.step() == set()
    steps.ask("second")
    assert [steps.step() for _ in range(STEPS - 1)] == [set()] * (STEPS - 1)
    assert steps.step() == {"first", "second"}


def test_many_prompts_begin_at_once(steps: Steps) -> None:
    """As many as are worth a step of their own wait for nobody."""
    many = {f"new-{number}" for number in range(BUSY // SHARE)}
    steps.ask(*many)
    assert steps.step() == many


def test_prompt_of_an_engine_that_is_not_busy_begins_at_once(base_model_dir: Path) -> None:
    """One answer less, and nothing waits."""
    steps = Steps(base_model_dir)
    steps.ask(*(f"running-{number}" for number in range(BUSY - 1)))
    steps.step()
    steps.ask("new")
    assert steps.step() == {"new"}


@pytest.mark.parametrize(
    ("has_card", "eager", "attention", "gathers", "is_whole"),
    [
        (True, False, 3, True, True),
        (True, False, 2, True, False),
        (True, True, 3, False, False),
        (False, False, None, False, False),
    ],
)
def test_engine_of_a_card_with_graphs_gathers_and_on_hopper_records_whole_steps(
    monkeypatch: pytest.MonkeyPatch,
    *,
    has_card: bool,
    eager: bool,
    attention: int | None,
    gathers: bool,
    is_whole: bool,
) -> None:
    """By names that vLLM resolves in the engine's own process; whole steps never without the worker that plans them."""
    settings = load("server", ServerSettings, [f"engine.enforce_eager={str(eager).lower()}"]).engine
    from vllm.config import SchedulerConfig  # noqa: PLC0415
    from vllm.platforms import current_platform  # noqa: PLC0415

    from services.server.engine.card import parts  # noqa: PLC0415
    from services.server.engine.card.scheduling import GatheringScheduler  # noqa: PLC0415

    monkeypatch.setattr(type(current_platform), "is_cuda", lambda _: has_card)
    monkeypatch.setattr(parts, "get_flash_attn_version", lambda: attention)
    own = parts.own_parts(settings)
    assert ("compilation_config" in own, own.get("worker_cls", "").endswith("WholeStepWorker")) == (is_whole, is_whole)
    assert ("scheduler_cls" in own, "worker_cls" in own) == (gathers, has_card)
    if gathers:
        config = SchedulerConfig.default_factory(scheduler_cls=own["scheduler_cls"])
        assert config.get_scheduler_cls() is GatheringScheduler
    if has_card:
        module, _, name = own["worker_cls"].rpartition(".")
        found = importlib.util.find_spec(module)  # not imported: vLLM's own worker needs a card
        assert found is not None
        assert found.origin is not None
        assert f"class {name}(" in Path(found.origin).read_text()
