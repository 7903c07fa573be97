"""Checks a machine for what the appliance needs, changes nothing, and says how to mend what is missing.

It runs on the host, whose Python may be as old as 3.8: annotations are not evaluated, and nothing else is newer.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Any

COMPOSE_AT_LEAST = (2, 24)  # `!reset` in compose.cpu.yaml
IMAGES_GIB, IMAGES_GIB_CPU = 30, 10  # both images and what building them leaves in Docker's cache
DATA_GIB, DATA_GIB_CPU = 10, 5  # base model, checkpoints, versions
WRITABLE = ("door", "run", "runs", "registry", "jobs", "responses", "usage", "cache/server", "cache/trainer")
READABLE = ("datasets", "models", "keys")
EVERYWHERE = "0.0.0.0"  # noqa: S104 - where Compose publishes a port that has no address


def main() -> int:
    """Run every check; 0 when all hold, 1 with a remedy for each that does not. What is only advised changes nothing in that."""
    parser = argparse.ArgumentParser(prog="python -m tools.preflight", description=__doc__)
    parser.add_argument("--cpu", action="store_true", help="check for the CPU profile: no card is needed")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("WHETSTONE_DATA_DIR") or "data"))
    parser.add_argument("--uid", type=int, default=int(os.environ.get("WHETSTONE_UID") or "10001"))
    options = parser.parse_args()
    checks: list[tuple[str, Callable[[], str | None]]] = [
        ("Docker engine", _engine),
        ("Docker Compose", _compose),
        ("data folders", lambda: _folders(options.data, options.uid)),
        ("published port", lambda: _port(options.data, cpu=options.cpu)),
        ("disk", lambda: disk_problem(_disk_needs(options.data, cpu=options.cpu))),
    ]
    if not options.cpu:
        checks.insert(2, ("GPU in containers", _card))
    problems = 0
    for name, check in checks:
        problem = check()
        problems += problem is not None
        print(f"{'ok     ' if problem is None else 'MISSING'}  {name}{'' if problem is None else ': ' + problem}")
    advised = {"start at boot": _boot(), "firewall": _firewall(os.environ.get("WHETSTONE_NETWORK") or "203.0.113")}
    for name, advice in advised.items():
        if advice is not None:
            print(f"advised  {name}: {advice}")
    return 1 if problems else 0


def _engine() -> str | None:
    if shutil.which("docker") is None:
        return "no `docker` on the PATH; install Docker Engine"
    done = _run("docker", "info", "--format", "{{.ServerVersion}}")
    if done.returncode != 0:
        return "the engine does not answer; start it (systemctl start docker), or let this user use it (group docker)"
    return None


def _compose() -> str | None:
    done = _run("docker", "compose", "version", "--format", "json")
    if done.returncode != 0:
        return "`docker compose` is missing; install the Compose v2 plugin"
    version = json.loads(done.stdout)["version"].lstrip("v")
    numbers = tuple(int(part) for part in version.split("-")[0].split(".")[:2])
    if numbers < COMPOSE_AT_LEAST:
        return f"Compose {version} is too old; install {'.'.join(map(str, COMPOSE_AT_LEAST))} or newer"
    return None


def _card() -> str | None:
    if not Path("/dev/nvidiactl").exists():
        return "no NVIDIA driver; install it, or use PROFILE=cpu"
    runtimes = _run("docker", "info", "--format", "{{json .Runtimes}} {{json .CDISpecDirs}}").stdout
    if "nvidia" not in runtimes and not any(
        Path(folder).glob("nvidia*") for folder in map(Path, ("/etc/cdi", "/var/run/cdi"))
    ):
        return "Docker cannot hand the card to containers; install the NVIDIA Container Toolkit and restart Docker"
    return None


def _folders(data: Path, uid: int) -> str | None:
    missing = [name for name in (*WRITABLE, *READABLE) if not (data / name).is_dir()]
    if missing:
        return f"{data} lacks {', '.join(missing)}; `make folders` makes them"
    foreign = [name for name in WRITABLE if not _allows(data / name, uid, write=True)]
    foreign += [name for name in READABLE if not _allows(data / name, uid, write=False)]
    if foreign:
        return f"user {uid}, as which the containers run, may not use {', '.join(foreign)} in {data}; sudo chown -R {uid} there"
    return None


def _port(data: Path, *, cpu: bool) -> str | None:
    files = ["-f", "compose.yaml", *(["-f", "compose.cpu.yaml"] if cpu else [])]
    done = _run("docker", "compose", *files, "config", "--format", "json")
    if done.returncode != 0:
        return f"Compose cannot read {' and '.join(files[1::2])}: {done.stderr.strip()}"
    elsewhere = [address for address in published_at(json.loads(done.stdout)) if not _is_loopback(address)]
    if elsewhere and not _has_key(data / "keys" / "keys.json"):
        return (
            f"it is published at {', '.join(elsewhere)}, but no API key was made: everyone on that network could use the server; "
            "make one with `make key NAME=...`, or publish it at 127.0.0.1 in compose.yaml"
        )
    return None


def published_at(project: dict[str, Any]) -> list[str]:
    """The addresses of every port that a project publishes, as ``docker compose config`` tells it."""
    ports = [port for service in project["services"].values() for port in service.get("ports") or ()]
    return sorted({port.get("host_ip") or EVERYWHERE for port in ports})


def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:  # Docker takes no names
        return False


def _has_key(file: Path) -> bool:
    """Whether one was ever made, as the server asks; a file that it could not read ends it, so that one counts as none here."""
    try:
        return bool(json.loads(file.read_bytes())["keys"])
    except (OSError, ValueError, KeyError):
        return False


def firewall_rule(network: str) -> list[str]:
    """Of iptables' table ``mangle``: what is begun from the door's addresses ends, before it is for the host or for anyone."""
    return ["PREROUTING", "-s", f"{network}.0/29", "-m", "conntrack", "--ctstate", "NEW", "-j", "DROP"]


def _boot() -> str | None:
    """Not every distribution has Docker start by itself; that its socket would start it is of no use, for nobody asks there."""
    state = _run("systemctl", "is-enabled", "docker.service").stdout.strip()
    if state not in {"disabled", "masked"}:
        return None
    remedy = "systemctl unmask docker && systemctl enable docker" if state == "masked" else "systemctl enable docker"
    return f"Docker does not start with this machine, so that after a reboot nothing is served; {remedy}"


def _firewall(network: str) -> str | None:
    rule = firewall_rule(network)
    if _run("iptables", "-t", "mangle", "-C", *rule).returncode == 0:
        return None
    unseen = "" if os.geteuid() == 0 else "; only root can see whether the rule is there"
    return (
        "a server that was taken over could call services of this machine that listen on all its addresses; "
        f"to prevent it: iptables -t mangle -I {' '.join(rule)}{unseen}"
    )


def _allows(folder: Path, uid: int, *, write: bool) -> bool:
    """Whether the mode bits let ``uid`` list, and if asked change, the folder; group rights are left out on purpose."""
    status = folder.stat()
    bits = status.st_mode >> 6 if status.st_uid == uid else status.st_mode
    wanted = 0o7 if write else 0o5
    return bits & wanted == wanted


def _disk_needs(data: Path, *, cpu: bool) -> list[tuple[Path, int]]:
    """What must be free where: images only as long as they are not built, and only where Docker's folder is this machine's."""
    needs = [(data if data.exists() else Path(), DATA_GIB_CPU if cpu else DATA_GIB)]
    profile = "cpu" if cpu else "cuda"
    built = (
        _run("docker", "image", "inspect", f"whetstone-server:{profile}", f"whetstone-trainer:{profile}").returncode
        == 0
    )
    root = _run("docker", "info", "--format", "{{.DockerRootDir}}").stdout.strip()
    if not built and root and Path(root).exists():
        needs.append((Path(root), IMAGES_GIB_CPU if cpu else IMAGES_GIB))
    return needs


def disk_problem(
    needs: list[tuple[Path, int]], *, usage: Callable[[Path], tuple[int, int, int]] = shutil.disk_usage
) -> str | None:
    """Compare what is free with what is wanted, folders on one disk added up.

    Args:
        needs: folders that exist, and the GiB wanted there.
        usage: total, used and free bytes of a folder's disk.
    """
    disks: dict[int, list[tuple[Path, int]]] = {}
    for folder, gib in needs:
        disks.setdefault(folder.stat().st_dev, []).append((folder, gib))
    for wanted in disks.values():
        free, total = usage(wanted[0][0])[2] / 2**30, sum(gib for _, gib in wanted)
        if free < total:
            parts = " and ".join(f"{gib} for {folder.absolute()}" for folder, gib in wanted)
            return f"{free:.0f} GiB are free, wanted are {parts}; free space, or set WHETSTONE_DATA_DIR to another disk"
    return None


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(words, 1, "", str(error))


if __name__ == "__main__":
    sys.exit(main())
