"""``vllm serve`` and Whetstone's server as processes, on real engines with the same arguments; for ``benchmarks.serving``."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import msgspec

from benchmarks.adapters import PACKAGE
from benchmarks.machine import REPOSITORY, environment
from services.common.settings import load
from services.server.engine.card.graphs import graph_sizes
from services.server.engine.environment import prepare_environment
from services.server.settings import EngineSettings, ServerSettings
from tools.serving import cores, free_port

ADAPTER = "acme-support"
_START_SECONDS = 300.0
_TICKS = os.sysconf("SC_CLK_TCK")
_MAX_LENGTH = 2048


class Engine(msgspec.Struct, frozen=True, kw_only=True):
    """What both engines are to be.

    Attributes:
        streams: answers at the same time.
        memory: share of the card.
        is_cpu: vLLM's CPU build, in float32 and without compilation.
        same_graphs: whether vLLM's server records as many CUDA graphs as Whetstone's, or as many as it does by itself.
    """

    streams: int
    memory: float
    is_cpu: bool
    same_graphs: bool

    @property
    def settings(self) -> list[str]:
        """Of ``config/server.toml``."""
        words = [
            f"max_num_seqs={self.streams}",
            f"max_model_len={_MAX_LENGTH}",
            f"gpu_memory_utilization={self.memory}",
        ]
        words += [f"enforce_eager={str(self.is_cpu).lower()}", f"dtype={'float32' if self.is_cpu else 'bfloat16'}"]
        return [f"engine.{word}" for word in [*words, f"cpu_threads_bind={cores()}"]]

    def loaded(self) -> EngineSettings:
        """The engine's settings as the server reads them; this process gets its profile."""
        os.environ["WHETSTONE_PROFILE"] = "cpu" if self.is_cpu else ""
        return load("server", ServerSettings, self.settings, folder=REPOSITORY / "config").engine


class RealServer:
    """One of the two, and the processes that it starts.

    Args:
        name: ``vllm`` or ``whetstone``.
        command: of its process.
        variables: of its environment.
        port: on loopback.
        key: that it asks for.
        log: its file.
    """

    def __init__(
        self, name: str, command: list[str], variables: dict[str, str], port: int, key: str, log: Path
    ) -> None:
        self.name = name
        self.key = key
        self.port = port
        self.log = log
        self.url = f"http://127.0.0.1:{port}"
        self._began = time.monotonic()
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command, env=variables, stdout=output, stderr=output, start_new_session=True
            )
        self.pid = self._process.pid

    def wait_ready(self, model: str = ADAPTER) -> float:
        """Until it lists a model.

        Returns:
            seconds since it was started.

        Raises:
            RuntimeError: it ended, or took too long; with the end of its log.
        """
        request = urllib.request.Request(f"{self.url}/v1/models", headers={"Authorization": f"Bearer {self.key}"})  # noqa: S310
        while self._process.poll() is None and time.monotonic() - self._began < _START_SECONDS:
            with contextlib.suppress(OSError), urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310
                if model in answer.read().decode():
                    return round(time.monotonic() - self._began, 2)
            time.sleep(0.1)
        raise RuntimeError(f"{self.name} did not start: {self.log.read_text(errors='replace')[-6000:]}")

    def cpu_seconds(self) -> dict[str, float]:
        """What the front end used since it began, and what the processes below it did."""
        used = {"front_end": 0.0, "engine": 0.0}
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) == self._process.pid:  # its session
                    kind = "front_end" if int(folder.name) == self._process.pid else "engine"
                    used[kind] += (int(fields[11]) + int(fields[12])) / _TICKS
        return used

    def end(self) -> None:
        """SIGTERM; whatever is left of its session is killed."""
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(40)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def start_vllm(engine: Engine, data: Path, base: Path, adapter: Path, key: str) -> RealServer:
    """VLLM's own server with an adapter, as ``vllm serve`` starts it, in the environment of the project's own."""
    port, settings = free_port(), engine.loaded()
    words = ["--model", str(base.absolute()), "--enable-lora", "--lora-modules", f"{ADAPTER}={adapter}"]
    words += [
        "--max-loras",
        str(settings.max_loras),
        "--max-cpu-loras",
        str(settings.max_cpu_loras),
        "--max-lora-rank",
        str(settings.max_lora_rank),
    ]
    words += ["--lora-target-modules", *settings.target_modules, *_words(engine, settings, base, port, key)]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *words]
    return RealServer("vllm", command, environment(), port, key, data / "vllm.log")


def start_vllm_in_rust(engine: Engine, data: Path, base: Path, key: str) -> RealServer:
    """VLLM's server with its front end in Rust, which serves the base alone."""
    port, settings = free_port(), engine.loaded()
    words = ["serve", str(base.absolute()), *_words(engine, settings, base, port, key)]
    command = [sys.executable, "-m", "vllm.entrypoints.cli.main", *words]
    return RealServer("rust", command, environment(VLLM_USE_RUST_FRONTEND="1"), port, key, data / "rust.log")


def _words(engine: Engine, settings: EngineSettings, base: Path, port: int, key: str) -> list[str]:
    words = ["--served-model-name", base.name, "--host", "127.0.0.1", "--port", str(port)]
    words += ["--api-key", key, "--dtype", settings.dtype, "--max-num-seqs", str(settings.max_num_seqs)]
    words += ["--max-model-len", str(settings.max_model_len)]
    words += ["--gpu-memory-utilization", str(settings.gpu_memory_utilization), "--disable-uvicorn-access-log"]
    if settings.enforce_eager:
        words.append("--enforce-eager")
    elif engine.same_graphs:
        words += ["--cudagraph-capture-sizes", *map(str, graph_sizes(settings.cuda_graph_tokens))]
    prepare_environment(settings)
    return words


def start_whetstone(
    engine: Engine,
    data: Path,
    base: Path,
    key: str,
    *,
    name: str = "whetstone",
    module: str = "services.server",
    more: Sequence[str] = (),
) -> RealServer:
    """This project's server, with its shipped settings but for the engine's, and what the registry in ``data`` has.

    Args:
        engine: what the engine is to be.
        data: the data root.
        base: the base model's folder.
        key: that it asks for.
        name: of the server in what is told.
        module: whose verb ``serve`` it is.
        more: settings.
    """
    port = free_port()
    config = data / "config"
    shutil.copytree(REPOSITORY / "config", config, dirs_exist_ok=True)
    (config / "cpu" / "base.toml").unlink()
    (config / "base.toml").write_text(f'[base_model]\nname = "{base.name}"\npackage = "{PACKAGE}"\n')
    sets = [f"server.port={port}", *engine.settings, *more]
    command = [sys.executable, "-m", module, "serve", "--json-logs"]
    command += [word for item in sets for word in ("--set", item)]
    variables = environment(WHETSTONE_DATA=str(data), WHETSTONE_CONFIG=str(config))
    return RealServer(name, command, variables, port, key, data / f"{name}.log")
