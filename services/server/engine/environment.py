"""What vLLM reads from the environment alone; set before its first import."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

from services.server.engine.discreet import write_logging
from services.server.settings import EngineSettings


def prepare_environment(settings: EngineSettings, *, json_logs: bool | None = None) -> None:
    """Set vLLM's environment: no outgoing calls, no development doors, logs that quote nobody, the CPU build's memory and cores.

    Args:
        settings: of which some are vLLM's variables.
        json_logs: see ``services.common.logs.configure_logs``.
    """
    os.environ.update(
        VLLM_NO_USAGE_STATS="1",
        DO_NOT_TRACK="1",
        HF_HUB_OFFLINE="1",
        TRANSFORMERS_OFFLINE="1",
        TOKENIZERS_PARALLELISM="true",  # texts that come at once, each on a core
        VLLM_CONFIGURE_LOGGING="1",  # by the file below; with 0 vLLM would not start
        VLLM_PLUGINS="",  # none: where it is unset, vLLM loads whatever installed package declares itself one
        VLLM_WORKER_MULTIPROC_METHOD="spawn",  # this process has threads, which a fork would tear apart
        VLLM_CPU_KVCACHE_SPACE=str(settings.cpu_kv_cache_gib),
        VLLM_CPU_OMP_THREADS_BIND=settings.cpu_threads_bind,
    )
    if settings.enforce_eager:
        # vLLM compiles a helper of its log-probabilities even so, at the first probe: minutes, and it wants a C++ compiler.
        os.environ["TORCHDYNAMO_DISABLE"] = "1"
    # Left to itself glibc stops giving back what it saw freed once, up to 32 MiB a piece: scoring prompts on a CPU left 0.4 GiB behind
    # (docs/decisions/0088). Read by the engine's processes when they start.
    os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(2**22))
    os.environ.setdefault("MALLOC_TRIM_THRESHOLD_", str(2**23))
    os.environ.setdefault("VLLM_WORKER_SHUTDOWN_TIMEOUT_SECONDS", "2")  # requests were drained before the engine ends
    # Where its processes talk to each other; vLLM leaves the files of its sockets behind.
    folder = tempfile.mkdtemp(prefix="whetstone-engine-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ["VLLM_RPC_BASE_PATH"] = folder
    level = os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    logging = Path(folder) / "logging.json"
    write_logging(logging, level.upper(), as_json=json_logs)
    os.environ["VLLM_LOGGING_CONFIG_PATH"] = str(logging)
    for door in ("VLLM_ALLOW_RUNTIME_LORA_UPDATING", "VLLM_SERVER_DEV_MODE", "VLLM_ALLOW_INSECURE_SERIALIZATION"):
        os.environ.pop(door, None)
