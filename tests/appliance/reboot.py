"""A reboot of the Docker host as its containers see it: all is killed in one moment, then the engine starts, and nothing else."""

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.e2e.serving import alive, below

ENGINE = REPOSITORY / "tests" / "appliance" / "engine.sh"
LOG = Path("/var/log/whetstone-dockerd.log")  # as engine.sh has it
PID_FILE = Path("/run/docker.pid")
CONTAINERD_PID_FILE = Path("/run/docker/containerd/containerd.pid")
GONE_SECONDS = 10.0


def reboot() -> None:
    """Kill dockerd, containerd, every shim and every process in a container; start the engine as engine.sh does.

    Skips the test where the engine is not the one that engine.sh started: the machine's own containers may run there.
    """
    dockerd = _dockerd()
    doomed = [dockerd, *below(dockerd)]
    for container in _docker("ps", "--quiet"):
        [first] = map(int, _docker("inspect", "--format", "{{.State.Pid}}", container))
        shim = _parent(first)
        assert _name(shim).startswith("containerd-shim"), f"{_name(shim)} has started {container}"
        doomed += [shim, *below(shim)]
    for pid in doomed:  # dockerd first: it is not to see how the others end
        with contextlib.suppress(ProcessLookupError):  # such as a healthcheck that has ended
            os.kill(pid, signal.SIGKILL)
    limit = time.monotonic() + GONE_SECONDS
    while left := [pid for pid in doomed if alive(pid)]:
        assert time.monotonic() < limit, f"still there: {left}"
        time.sleep(0.05)
    for file in (PID_FILE, CONTAINERD_PID_FILE):  # a reboot empties /run; process 1 may not have reaped them yet
        file.unlink(missing_ok=True)
    subprocess.run([ENGINE], check=True, stdout=subprocess.DEVNULL)


def _dockerd() -> int:
    try:
        pid = int(PID_FILE.read_text())
        writes_to = Path(f"/proc/{pid}/fd/1").resolve()
    except OSError:
        pytest.skip("no engine of this machine's own")
    if _name(pid) != "dockerd" or writes_to != LOG:
        pytest.skip("engine.sh has not started this engine: it is not the test's to kill")
    return pid


def _docker(*words: str) -> list[str]:
    return subprocess.run(["docker", *words], check=True, capture_output=True, text=True).stdout.split()


def _name(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
