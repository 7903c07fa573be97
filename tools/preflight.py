"""Checks a machine for what the appliance needs, changes nothing, and says how to mend what is missing."""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

COMPOSE_AT_LEAST = (2, 24)  # `!reset` in compose.cpu.yaml
FREE_GIB_AT_LEAST = 40
FREE_GIB_AT_LEAST_CPU = 15
WRITABLE = ("runs", "registry", "cache/server", "cache/trainer")
READABLE = ("datasets", "models", "keys")

Problem = str | None


def main() -> int:
    """Run every check; 0 when all hold, 1 with a remedy for each that does not."""
    parser = argparse.ArgumentParser(prog="python -m tools.preflight", description=__doc__)
    parser.add_argument("--cpu", action="store_true", help="check for the CPU profile: no card is needed")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("WHETSTONE_DATA_DIR") or "data"))
    parser.add_argument("--uid", type=int, default=int(os.environ.get("WHETSTONE_UID") or "10001"))
    options = parser.parse_args()
    checks: list[tuple[str, Callable[[], Problem]]] = [
        ("Docker engine", _engine),
        ("Docker Compose", _compose),
        ("data folders", lambda: _folders(options.data, options.uid)),
        ("disk", lambda: _disk(options.data, FREE_GIB_AT_LEAST_CPU if options.cpu else FREE_GIB_AT_LEAST)),
    ]
    if not options.cpu:
        checks.insert(2, ("GPU in containers", _card))
    problems = 0
    for name, check in checks:
        problem = check()
        problems += problem is not None
        print(f"{'ok     ' if problem is None else 'MISSING'}  {name}{'' if problem is None else ': ' + problem}")
    return 1 if problems else 0


def _engine() -> Problem:
    if shutil.which("docker") is None:
        return "no `docker` on the PATH; install Docker Engine"
    done = _run("docker", "info", "--format", "{{.ServerVersion}}")
    if done.returncode != 0:
        return "the engine does not answer; start it (systemctl start docker), or let this user use it (group docker)"
    return None


def _compose() -> Problem:
    done = _run("docker", "compose", "version", "--format", "json")
    if done.returncode != 0:
        return "`docker compose` is missing; install the Compose v2 plugin"
    version = json.loads(done.stdout)["version"].lstrip("v")
    numbers = tuple(int(part) for part in version.split("-")[0].split(".")[:2])
    if numbers < COMPOSE_AT_LEAST:
        return f"Compose {version} is too old; install {'.'.join(map(str, COMPOSE_AT_LEAST))} or newer"
    return None


def _card() -> Problem:
    if not Path("/dev/nvidiactl").exists():
        return "no NVIDIA driver; install it, or use PROFILE=cpu"
    runtimes = _run("docker", "info", "--format", "{{json .Runtimes}} {{json .CDISpecDirs}}").stdout
    if "nvidia" not in runtimes and not any(
        Path(folder).glob("nvidia*") for folder in map(Path, ("/etc/cdi", "/var/run/cdi"))
    ):
        return "Docker cannot hand the card to containers; install the NVIDIA Container Toolkit and restart Docker"
    return None


def _folders(data: Path, uid: int) -> Problem:
    missing = [name for name in (*WRITABLE, *READABLE) if not (data / name).is_dir()]
    if missing:
        return f"{data} lacks {', '.join(missing)}; `make folders` makes them"
    foreign = [name for name in WRITABLE if not _allows(data / name, uid, write=True)]
    foreign += [name for name in READABLE if not _allows(data / name, uid, write=False)]
    if foreign:
        return f"user {uid}, as which the containers run, may not use {', '.join(foreign)} in {data}; sudo chown -R {uid} there"
    return None


def _allows(folder: Path, uid: int, *, write: bool) -> bool:
    """Whether the mode bits let ``uid`` list, and if asked change, the folder; group rights are left out on purpose."""
    status = folder.stat()
    bits = status.st_mode >> 6 if status.st_uid == uid else status.st_mode
    wanted = 0o7 if write else 0o5
    return bits & wanted == wanted


def _disk(data: Path, wanted: int) -> Problem:
    free = shutil.disk_usage(data if data.exists() else Path()).free / 2**30
    if free < wanted:
        return f"{free:.0f} GiB are free where the data lie, {wanted} are wanted for images, base model and checkpoints"
    return None


def _run(*words: str) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(words, 1, "", str(error))


if __name__ == "__main__":
    sys.exit(main())
