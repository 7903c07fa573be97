"""A real server process for end-to-end tests: the real engine, the real model, a port of its own."""

import contextlib
import math
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import httpx2
import openai

from services.common.paths import DataPaths
from services.registry.layout import Registry
from services.trainer.work.deletions import Deleter, give_up
from services.trainer.work.desk import Desk
from tests.conftest import REPOSITORY, project_environment
from tests.support.doors import DoorProcess
from tests.support.nowhere import Nowhere
from tools.serving import free_port

START_SECONDS = 240.0
STOP_SECONDS = 60.0


class ServerProcess:
    """``python -m services.server serve`` with its data below ``data``.

    Args:
        data: the data root, with ``models`` in it.
        overrides: settings, as ``table.key=value``.
        kill_at: a place at which it dies, as ``services.common.killpoints`` takes it.
        inside: a network that leads nowhere, in which it runs; it is asked through its private socket.
        door: lends it its port, in place of one of its own.
        environment: what is other than in the tests' own, such as the profile.

    Attributes:
        start_seconds: from its start until it was ready; endless before.
        inside: the network.
    """

    def __init__(
        self,
        data: Path,
        *overrides: str,
        kill_at: str = "",
        inside: Nowhere | None = None,
        door: DoorProcess | None = None,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.start_seconds = math.inf
        self.inside = inside
        self.port = door.port if door is not None else free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = data / f"server-{self.port}.log"
        cores = f"engine.cpu_threads_bind=0-{(os.cpu_count() or 1) - 1}"
        lent = [f"server.door={door.path}"] if door is not None else []
        settings = [f"server.port={self.port}", cores, *lent, *overrides]
        arguments = [word for setting in settings for word in ("--set", setting)]
        within = inside.prefix if inside is not None else []
        self._began = time.monotonic()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*within, sys.executable, "-m", "services.server", "serve", "--json-logs", *arguments],
                cwd=REPOSITORY,
                env=project_environment(
                    data, WHETSTONE_KILL_AT=kill_at, WHETSTONE_PUBLISHED_AT="127.0.0.1", **environment
                ),
                stdout=log,
                stderr=log,
            )
        self._socket = str(DataPaths(data).server_socket) if inside is not None else None
        self.client = openai.OpenAI(
            base_url=f"{self.url}/v1",
            api_key="none",
            max_retries=0,
            timeout=120,
            http_client=openai.DefaultHttpxClient(
                transport=httpx2.HTTPTransport(uds=self._socket) if self._socket is not None else None
            ),
        )

    def wait_ready(self) -> None:
        """Until /readyz says so."""
        self.wait(lambda: self._readiness()[0] == 200, START_SECONDS)
        self.start_seconds = time.monotonic() - self._began

    def wait(self, condition: Any, seconds: float = 60.0) -> None:
        """Until ``condition()`` holds; fails with the log's end where the process dies before."""
        end = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, f"the server ended: {self.log.read_text()[-3000:]}"
            assert time.monotonic() < end, f"waited {seconds} s in vain: {self.log.read_text()[-3000:]}"
            time.sleep(0.05)

    @property
    def readiness(self) -> dict[str, Any]:
        """What /readyz says."""
        return self._readiness()[1]

    def names(self) -> list[str]:
        """Every model that is served now."""
        return [model.id for model in self.client.models.list()]

    def running(self) -> float:
        """Requests that run or wait in vLLM, by its own metrics."""
        lines = httpx.get(f"{self.url}/metrics", timeout=10).text.splitlines()
        names = ("vllm:num_requests_running", "vllm:num_requests_waiting{")
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(names))

    def family(self) -> list[int]:
        """The process ids of every process below the server's."""
        return below(self.process.pid)

    def engine(self) -> int:
        """The process id of the engine's core."""
        return next(pid for pid in self.family() if is_engine(pid))

    def terminate(self) -> int:
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_SECONDS)

    def end(self) -> None:
        """Whatever state it is in, nothing of it is left."""
        self.client.close()
        family = self.family()
        if self.process.poll() is None:
            try:
                self.terminate()
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _readiness(self) -> tuple[int, dict[str, Any]]:
        if self._socket is not None and not _listens(self._socket):  # httpx leaves a socket open where nobody does
            return 0, {}
        try:
            private = httpx.HTTPTransport(uds=self._socket) if self._socket is not None else None
            # A client that could verify reads all certificate authorities first: a third of a core for who looks 20 times a second.
            with httpx.Client(transport=private, verify=False, timeout=10) as http:  # noqa: S501 - loopback, no TLS
                response = http.get(f"{self.url}/readyz")
        except httpx.ConnectError:
            return 0, {}
        return response.status_code, response.json()


def delete(data: Path, models: Iterable[tuple[str, int | None]]) -> None:
    """Versions of adapters, or all of an adapter's (None), as an operator's command and the trainer behind it do."""
    desk, registry = Desk(DataPaths(data)), Registry(data / "registry")
    for adapter, version in models:
        give_up(desk.deletions, registry, adapter, version)
    Deleter(desk.deletions, registry)()


def delete_adapters(server: ServerProcess, data: Path, *adapters: str) -> None:
    """As an operator does: all versions, those in service, too; until the server holds none of them."""
    delete(data, [(adapter, None) for adapter in adapters])
    server.wait(lambda: not {name.partition("@")[0] for name in server.names()} & set(adapters), 30)


def left_over(family: list[int], seconds: float = 5.0) -> list[int]:
    """Which of these processes still run; they have a moment to notice that their parent is gone."""
    end = time.monotonic() + seconds
    while (left := [pid for pid in family if alive(pid)]) and time.monotonic() < end:
        time.sleep(0.05)
    return left


def alive(pid: int) -> bool:
    """Whether a process runs; one that only waits for its parent's notice does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def is_engine(pid: int) -> bool:
    """Whether a process is the engine's core, as vLLM calls it."""
    try:
        return b"EngineCor" in Path(f"/proc/{pid}/comm").read_bytes()
    except FileNotFoundError:
        return False


def below(pid: int) -> list[int]:
    """The process ids of every process below another."""
    children: list[int] = []
    with contextlib.suppress(FileNotFoundError):
        for file in Path(f"/proc/{pid}/task").glob("*/children"):
            with contextlib.suppress(FileNotFoundError):
                children += map(int, file.read_text().split())
    return [*children, *(grandchild for child in children for grandchild in below(child))]


def _listens(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(path) == 0
