"""The server's settings: ``config/server.toml`` and ``config/base.toml`` as structs."""

from typing import Annotated, Literal

import msgspec

Positive = Annotated[int, msgspec.Meta(ge=1)]
Seconds = Annotated[float, msgspec.Meta(gt=0)]
Patience = Annotated[float, msgspec.Meta(ge=0.1, le=86_400)]  # seconds
_AROUND_SCHEMAS = 8  # objects and arrays that a body has around a schema, and some to spare


class Listen(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[server]``: where it listens and how it ends; ``config/server.toml`` explains each."""

    host: str
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)]
    door: str
    drain_seconds: Seconds
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"]


class EngineSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[engine]``: how vLLM is started."""

    dtype: Literal["auto", "float32", "bfloat16", "float16"]
    max_model_len: Positive
    gpu_memory_utilization: Annotated[float, msgspec.Meta(gt=0, le=1)]
    max_num_seqs: Positive
    merged_adapter: str
    merged_gpu_memory_utilization: Annotated[float, msgspec.Meta(gt=0, le=1)]
    max_loras: Positive
    max_cpu_loras: Positive
    max_lora_rank: Literal[8, 16, 32, 64, 128, 256, 320, 512]
    target_modules: Annotated[list[str], msgspec.Meta(min_length=1)]
    tool_parser: Annotated[str, msgspec.Meta(min_length=1)]
    reasoning_parser: str
    enforce_eager: bool
    cuda_graph_tokens: Positive
    start_seconds: Seconds
    stuck_seconds: Seconds
    cpu_kv_cache_gib: Positive
    cpu_threads_bind: str

    def __post_init__(self) -> None:
        """Refuse what vLLM would refuse minutes later."""
        if self.max_cpu_loras < self.max_loras:
            raise ValueError("engine.max_cpu_loras must be at least engine.max_loras")


class AdapterSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[adapters]``: how often the registry is looked at and when a version is believed."""

    poll_seconds: Seconds
    probe_tolerance: Annotated[float, msgspec.Meta(gt=0)]
    probe_min_change: Annotated[float, msgspec.Meta(ge=0)]


class CanarySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[canary]``: when a version that some users try is taken from them."""

    window: Positive
    min_answers: Positive
    max_error_share: Annotated[float, msgspec.Meta(ge=0, le=1)]
    max_length_rise: Annotated[float, msgspec.Meta(ge=0, le=1)]


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[limits]``: what a connection may take, what one request may ask for, and how many may wait."""

    max_connections: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
    max_head_bytes: Annotated[int, msgspec.Meta(ge=8192, le=1_048_576)]
    head_seconds: Patience
    unread_seconds: Patience
    max_body_bytes: Positive
    body_seconds: Seconds
    max_json_depth: Annotated[int, msgspec.Meta(ge=16, le=200)]
    max_prompt_tokens: Annotated[int, msgspec.Meta(ge=0)]
    max_output_tokens: Annotated[int, msgspec.Meta(ge=0)]
    answer_seconds: Patience
    max_waiting: Annotated[int, msgspec.Meta(ge=0)]
    max_messages: Positive
    max_prompts: Positive
    max_n: Positive
    max_logprobs: Annotated[int, msgspec.Meta(ge=0)]
    max_stop: Positive
    max_stop_chars: Positive
    max_logit_bias: Annotated[int, msgspec.Meta(ge=0)]
    max_tools: Positive
    max_schema_bytes: Positive
    max_schema_depth: Positive
    max_schema_repeats: Positive
    max_schema_cpu_seconds: Seconds
    schema_seconds: Seconds
    max_file_bytes: Positive
    max_uploads: Positive
    upload_seconds: Seconds
    check_seconds: Seconds
    check_memory_bytes: Positive

    def __post_init__(self) -> None:
        """Refuse a limit that would never be reached."""
        if self.max_json_depth < self.max_schema_depth + _AROUND_SCHEMAS:
            raise ValueError(f"limits.max_json_depth must be at least limits.max_schema_depth + {_AROUND_SCHEMAS}")


class ResponsesSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[responses]``: whether answers are stored, how long, and how many."""

    keep_days: Annotated[int, msgspec.Meta(ge=0, le=3650)]
    max_bytes: Annotated[int, msgspec.Meta(ge=1_048_576)]


class ServerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything in ``config/server.toml``."""

    server: Listen
    engine: EngineSettings
    adapters: AdapterSettings
    canary: CanarySettings
    limits: Limits
    responses: ResponsesSettings
