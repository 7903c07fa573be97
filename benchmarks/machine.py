"""What a result says of where it was measured."""

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
_PACKAGES = ("torch", "transformers", "peft", "trl", "unsloth", "bitsandbytes", "triton")


def has_card() -> bool:
    """Whether there is an NVIDIA card."""
    return Path("/dev/nvidiactl").exists()


def machine() -> dict[str, Any]:
    """The card, the cores and the versions."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "card": _said("nvidia-smi", "--query-gpu=name", "--format=csv,noheader") if has_card() else None,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "packages": found,
    }


def commit() -> str | None:
    """The repository's commit, or COMMIT where it is a copy without history."""
    return os.environ.get("COMMIT") or _said("git", "-C", str(REPOSITORY), "describe", "--always", "--dirty") or None


def described(benchmark: str) -> dict[str, Any]:
    """What a result begins with: the command of this process, the commit and the machine."""
    command = " ".join([f"python -m benchmarks.{benchmark}", *sys.argv[1:]])
    return {"command": command, "commit": commit(), "machine": machine()}


def write_result(out: Path, result: dict[str, Any]) -> None:
    """Write a result as it is so far: a call that is cut off keeps what it has."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")


def environment(**more: str) -> dict[str, str]:
    """This process's environment for one that runs the repository's code."""
    path = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
    return os.environ | {"PYTHONPATH": path} | more


def _said(*words: str) -> str:
    try:
        return subprocess.run(
            words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False
        ).stdout.strip()
    except FileNotFoundError:
        return ""
