"""``QuickMapping`` and vLLM's own way, side by side on the same steps: no model, no card."""

import random
from typing import Any

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.filterwarnings("ignore::DeprecationWarning")]  # vLLM's own, at its import

TOKENS, PROMPTS, SLOTS, VOCABULARY = 64, 16, 4, 100
STEPS = 300


@pytest.fixture(autouse=True)
def _without_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Triton vLLM does not import what holds the numbers, which needs none."""
    from vllm.lora.ops.triton_ops.lora_kernel_metadata import LoRAKernelMeta  # noqa: PLC0415 - heavy
    from vllm.lora.punica_wrapper import punica_gpu  # noqa: PLC0415

    monkeypatch.setattr(punica_gpu, "LoRAKernelMeta", LoRAKernelMeta, raising=False)


def _wrapper(captured: list[int]) -> Any:
    from vllm.config.lora import LoRAConfig  # noqa: PLC0415 - heavy
    from vllm.lora.punica_wrapper.punica_gpu import PunicaWrapperGPU  # noqa: PLC0415

    made = PunicaWrapperGPU(TOKENS, PROMPTS, "cpu", lora_config=LoRAConfig(max_loras=SLOTS, max_lora_rank=8))
    for meta in (made.token_mapping_meta, made.prompt_mapping_meta):
        meta.captured_lora_counts = captured
        for tensor in (meta.token_lora_mapping, meta.token_indices_sorted_by_lora_ids, meta.active_lora_ids):
            tensor.zero_()  # made without: what a step leaves alone is compared, too
    for name in BASE:
        getattr(made, name).zero_()
    return made


def _held(wrapper: Any) -> dict[str, Any]:
    """Everything that kernels and layers read."""
    found = {f"{name} {field}": getattr(getattr(wrapper, name), field).tolist() for name in METAS for field in FIELDS}
    found |= {name: getattr(wrapper, name).tolist() for name in BASE}
    return found | {"lengths": list(wrapper.indices_len), "is_prefill": wrapper.is_prefill}


METAS = ("token_mapping_meta", "prompt_mapping_meta")
FIELDS = (
    "token_lora_mapping",
    "token_indices_sorted_by_lora_ids",
    "active_lora_ids",
    "num_tokens_per_lora",
    "lora_token_start_loc",
    "no_lora_flag_cpu",
    "num_active_loras_cpu",
)
BASE = ("_token_lora_indices", "_sampler_indices", "_sampler_indices_padded", "_embeddings_indices")


@pytest.mark.parametrize("captured", [[], [1, 2, 4, 5]], ids=["any", "recorded"])
def test_every_step_is_mapped_as_by_vllm(captured: list[int]) -> None:
    """Whatever the prompts' lengths, adapters and slots are, with and without those that have no adapter."""
    from vllm.lora.layers import LoRAMapping  # noqa: PLC0415 - heavy

    from services.server.engine.card.mapping import QuickMapping  # noqa: PLC0415

    chance = random.Random(7)  # noqa: S311
    theirs, ours = _wrapper(captured), _wrapper(captured)
    assert QuickMapping.speed_up(ours)
    seen = set()
    for _ in range(STEPS):
        slots: list[int | None] = [chance.choice((None, slot + 1)) for slot in range(SLOTS)]
        chance.shuffle(slots)
        choice = [0, *(held for held in slots if held is not None)]
        if chance.random() < 0.3:
            choice = choice[-1:]  # one adapter, or none, for all
        prompts = [chance.choice(choice) for _ in range(chance.randint(1, PROMPTS))]
        tokens = [adapter for adapter in prompts for _ in range(chance.randint(1, TOKENS // PROMPTS))]
        mapping = LoRAMapping(tuple(tokens), tuple(prompts), is_prefill=True)
        for wrapper in (theirs, ours):
            wrapper.update_metadata(mapping, slots, SLOTS + 1, VOCABULARY)
        assert _held(ours) == _held(theirs)
        seen.add(len(set(prompts)))
    assert len(seen) > 3, "few kinds of steps were tried"


def test_an_adapter_without_a_slot_is_a_fault() -> None:
    """As in vLLM: it is never answered by the base, unsaid."""
    from services.server.engine.card.mapping import slots_of  # noqa: PLC0415

    with pytest.raises(KeyError):
        slots_of([1, 9], [None, 1])


def test_another_wrapper_is_left_as_it_is() -> None:
    """A build of vLLM for another card has one of its own."""
    from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU  # noqa: PLC0415

    from services.server.engine.card.mapping import QuickMapping  # noqa: PLC0415

    wrapper = PunicaWrapperCPU(TOKENS, PROMPTS, "cpu")
    assert not QuickMapping.speed_up(wrapper)
    assert "update_metadata" not in vars(wrapper)


def test_a_workers_wrappers_are_where_they_are_looked_for() -> None:
    """vLLM shows no other way to them; where a release renames one, this says so without a card."""
    import inspect  # noqa: PLC0415

    from vllm.lora.model_manager import LoRAModelManager  # noqa: PLC0415 - heavy
    from vllm.lora.worker_manager import LRUCacheWorkerLoRAManager, WorkerLoRAManager  # noqa: PLC0415
    from vllm.v1.worker.lora_model_runner_mixin import LoRAModelRunnerMixin  # noqa: PLC0415

    assert "self.lora_manager = LRUCacheWorkerLoRAManager(" in inspect.getsource(LoRAModelRunnerMixin)
    assert "self._adapter_manager" in inspect.getsource(LRUCacheWorkerLoRAManager.create_lora_manager)
    assert "self._adapter_manager.set_adapter_mapping(" in inspect.getsource(WorkerLoRAManager.set_active_adapters)
    assert "self.punica_wrapper_mapping" in inspect.getsource(LoRAModelManager)
