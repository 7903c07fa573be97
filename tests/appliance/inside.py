"""What a process within a container sees, writes and reaches: asked from inside, of the containers that Compose makes."""

import json
import subprocess
from collections.abc import Sequence
from typing import Any

from tests.conftest import REPOSITORY

COMPOSE = ("docker", "compose", "-f", "compose.yaml", "-f", "compose.cpu.yaml")
PROGRAM = """
import json, os, socket, sys

def status(pid):
    found = dict(line.split(":", 1) for line in open(f"/proc/{pid}/status").read().splitlines())
    return {
        "uid": found["Uid"].split()[0],
        "no_new_privileges": found["NoNewPrivs"].strip(),
        # The bounding set is what a process may ever get; the effective one is empty for any user but root.
        "capabilities": [int(found[name], 16) for name in ("CapBnd", "CapPrm", "CapEff")],
        "network": os.readlink(f"/proc/{pid}/ns/net") == os.readlink("/proc/self/ns/net"),
    }

def processes():
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            yield status(pid)
        except (FileNotFoundError, ProcessLookupError):
            pass  # it has just ended, as a healthcheck does

def writes(folder):
    try:
        open(folder + "/.probe", "w").close()
        os.unlink(folder + "/.probe")
        return True
    except OSError:
        return False

def works(attempt):
    try:
        attempt()
        return True
    except OSError:
        return False

def sent():
    cards = [card for card in os.listdir("/sys/class/net") if card != "lo"]
    return sum(int(open(f"/sys/class/net/{card}/statistics/tx_packets").read()) for card in cards)

# Everyone may write to /var/tmp, so that only the read-only root can refuse it.
folders = {"/", "/app", "/venv", "/etc", "/var/tmp", "/run", "/app/config", "/tmp", "/dev/shm"}
folders |= {line.split()[1] for line in open("/proc/mounts") if line.split()[1].startswith("/data")}
before = sent()
answer = {
    "resolves": works(lambda: socket.getaddrinfo("pypi.org", 443)),
    "sent": sent() - before,
    "processes": list(processes()),
    "writes": sorted(folder for folder in folders if writes(folder)),
    "sees": sorted(os.path.join(where, name) for where, _, names in os.walk("/data") for name in names if name.startswith("planted-")),
    "interfaces": sorted(os.listdir("/sys/class/net")),
    "routes": len(open("/proc/net/route").read().splitlines()) - 1,
    "reaches": [place for place in sys.argv[1:] if works(lambda: socket.create_connection((place, 9000), timeout=3).close())],
}
print(json.dumps(answer))
"""


def inside(service: str, environment: dict[str, str], *, running: bool = False, ask: Sequence[str] = ()) -> Any:
    """What ``PROGRAM`` finds in a container of its own, or in the running one; it tries to reach the addresses to ``ask``."""
    verb = (
        ["exec", "-T", service, "python"]
        if running
        else ["run", "--rm", "--no-deps", "-T", "--entrypoint", "python", service]
    )
    words = [*COMPOSE, *verb, "-c", PROGRAM, *ask]
    done = subprocess.run(words, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["processes"]
    return found


def check_rights(found: Any) -> None:
    """Every process there, the engine's children included: not root, no capability, none to be had, the one network."""
    for process in found["processes"]:
        assert process == {"uid": "10001", "no_new_privileges": "1", "capabilities": [0, 0, 0], "network": True}
