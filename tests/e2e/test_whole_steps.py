"""How a whole step is planned on a card: no card is needed to see what vLLM is told. What it answers then: tests/gpu/whole_steps.py."""

from types import SimpleNamespace
from typing import Any

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.filterwarnings("ignore::DeprecationWarning")]  # vLLM's own, at its import


class ModelState:
    """Of vLLM's model runner, as far as it plans attention: by the longest query that it is told of, or else by the step's own."""

    def __init__(self) -> None:
        self.planned_for: list[int] = []

    def prepare_attn(self, input_batch: Any, _mode: Any, *_: Any, for_capture: bool = False) -> None:
        """Note the longest query."""
        del for_capture
        told = input_batch.max_query_len
        self.planned_for.append(max(input_batch.num_scheduled_tokens) if told is None else told)


def test_a_whole_step_is_planned_for_what_its_graph_was_recorded_with() -> None:
    """Running answers alone, or prompts among them: the plan is the graph's; without a whole graph it is the step's own."""
    from vllm.config.compilation import CUDAGraphMode  # noqa: PLC0415 - heavy

    from services.server.engine.card.whole import plan_as_recorded  # noqa: PLC0415 - imports vLLM

    def step(*tokens: int) -> Any:
        return SimpleNamespace(max_query_len=None, num_scheduled_tokens=tokens, num_tokens_after_padding=64)

    state = ModelState()
    plan_as_recorded(state)
    state.prepare_attn(step(1, 1, 1), CUDAGraphMode.FULL)
    state.prepare_attn(step(1, 40, 1), CUDAGraphMode.FULL)
    state.prepare_attn(step(1, 40, 1), CUDAGraphMode.PIECEWISE)
    state.prepare_attn(step(1, 1, 1), CUDAGraphMode.NONE, for_capture=False)
    assert state.planned_for == [64, 64, 40, 1]


def test_vllm_still_plans_by_what_a_step_says_of_its_longest_query() -> None:
    """The fake above is what vLLM does: its own code reads the same field, and records a graph of N tokens for a query of N."""
    import inspect  # noqa: PLC0415

    from vllm.v1.worker.gpu import cudagraph_utils, input_batch  # noqa: PLC0415
    from vllm.v1.worker.gpu.model_states import default  # noqa: PLC0415

    assert "max_query_len = input_batch.max_query_len\n" in inspect.getsource(default.DefaultModelState.prepare_attn)
    assert "max_query_len = num_tokens\n" in inspect.getsource(cudagraph_utils.prepare_inputs_to_capture)
    fields = input_batch.InputBatch.__dataclass_fields__
    assert {"max_query_len", "num_tokens_after_padding"} <= set(fields)
