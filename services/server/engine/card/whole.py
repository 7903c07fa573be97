"""Whole engine steps as CUDA graphs, new prompts among them, whose attention is planned as it was recorded.

FlashAttention 3 plans a step before its kernels run, by the longest query among others: for single tokens it needs no causal mask and takes
other tiles. vLLM records a graph of N tokens for a query of N, and then plans each step that replays it by that step's own queries:
a plan for single tokens, read by kernels for prompts, gives wrong answers (docs/decisions/0105).
"""

from typing import Any

from vllm.config.compilation import CUDAGraphMode


def plan_as_recorded(model_state: Any) -> None:
    """Have ``model_state`` plan each step that is a whole graph for the query that the graph was recorded with.

    Args:
        model_state: of vLLM's model runner.
    """
    prepare = model_state.prepare_attn

    def prepare_attn(input_batch: Any, cudagraph_mode: CUDAGraphMode, *args: Any, **options: Any) -> Any:
        if cudagraph_mode == CUDAGraphMode.FULL:  # a replay; what is recorded says so by itself
            input_batch.max_query_len = input_batch.num_tokens_after_padding
        return prepare(input_batch, cudagraph_mode, *args, **options)

    model_state.prepare_attn = prepare_attn
