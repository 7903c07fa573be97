"""The engine's settings in vLLM's terms."""

from pathlib import Path
from typing import Any

from vllm import AsyncEngineArgs

from services.server.engine.card.graphs import graph_sizes
from services.server.engine.card.parts import own_parts as parts_on_a_card
from services.server.engine.processor.parts import own_parts as parts_on_a_processor
from services.server.settings import EngineSettings, Limits


def lora_arguments(model: Path, served_name: str, settings: EngineSettings, limits: Limits) -> AsyncEngineArgs:
    """Of the engine that serves every version."""
    return _arguments(
        model,
        served_name,
        settings,
        limits,
        gpu_memory_utilization=settings.gpu_memory_utilization,
        enable_lora=True,
        max_loras=settings.max_loras,
        max_cpu_loras=settings.max_cpu_loras,
        max_lora_rank=settings.max_lora_rank,
        # Left to itself vLLM adapts lm_head too: work at every token that no adapter asks for, and on a CPU its kernel kills
        # the engine when a prompt is scored among other requests (docs/decisions/0047).
        lora_target_modules=settings.target_modules,
    )


def merged_arguments(model: Path, served_name: str, settings: EngineSettings, limits: Limits) -> AsyncEngineArgs:
    """Of the engine into which a version is merged."""
    return _arguments(
        model,
        served_name,
        settings,
        limits,
        gpu_memory_utilization=settings.merged_gpu_memory_utilization,
        worker_extension_cls="services.server.engine.merging.worker.MergingWorker",
        disable_log_stats=True,  # the metrics are the other engine's: vLLM keeps one set in a process
    )


def _arguments(model: Path, served_name: str, settings: EngineSettings, limits: Limits, **more: Any) -> AsyncEngineArgs:
    return AsyncEngineArgs(
        model=str(model),
        served_model_name=served_name,
        trust_remote_code=False,
        load_format="safetensors",  # left to itself vLLM takes .bin and .pt, too
        dtype=settings.dtype,
        max_model_len=settings.max_model_len,
        max_num_seqs=settings.max_num_seqs,
        enable_prefix_caching=True,
        enforce_eager=settings.enforce_eager,
        cudagraph_capture_sizes=None if settings.enforce_eager else graph_sizes(settings.cuda_graph_tokens),
        max_logprobs=limits.max_logprobs,
        # JSON comes without blanks: a small model that may write them writes nothing else until its limit.
        structured_outputs_config={
            "backend": "xgrammar",
            "disable_any_whitespace": True,
            "reasoning_parser": settings.reasoning_parser,
        },
        enable_log_requests=False,
        **parts_on_a_card(settings),
        **parts_on_a_processor(),
        **more,
    )
