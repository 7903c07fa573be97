"""Says which base image both images are to be built on, keeps it at the first build, and refuses another at later ones.

A tag moves, and no digest could be written into the repository: what the tag names on this machine is looked up before each build. It runs
on the host, as preflight does, whose Python may be as old as 3.8.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

LOCK = "base-image.lock"  # among the data, which outlive a release: one line, image and digest
NAME_LABEL, DIGEST_LABEL = "org.opencontainers.image.base.name", "org.opencontainers.image.base.digest"
_DOCKERFILE = Path(__file__).resolve().parents[1] / "images" / "server.Dockerfile"
_DEFAULT = re.compile(r"^ARG PYTHON_IMAGE=(\S+)$", re.MULTILINE)


class BaseImageError(Exception):
    """It is not to be had, or not the one that was built on before; the message says the remedy."""


class BaseImage(NamedTuple):
    """An image at its content.

    Attributes:
        name: as it is asked for.
        digest: its registry's; of an image that came from none, the id of its configuration.
        pinned: the name by which a build gets this very content.
    """

    name: str
    digest: str
    pinned: str


def main() -> int:
    """Print the name to build from and the digest on one line; 1 with one sentence where there is none, or another than before."""
    parser = argparse.ArgumentParser(prog="python -m tools.base_image", description=__doc__)
    parser.add_argument("--new", action="store_true", help="take another one than at the first build")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("WHETSTONE_DATA_DIR") or "data"))
    options = parser.parse_args()
    try:
        base = look_up(os.environ.get("WHETSTONE_PYTHON_IMAGE") or _default())
        keep(base, options.data / LOCK, new=options.new)
    except BaseImageError as error:
        print(f"base image: {error}", file=sys.stderr)
        return 1
    print(f"base image: {base.name} is {base.digest}", file=sys.stderr)
    print(base.pinned, base.digest)
    return 0


def look_up(name: str) -> BaseImage:
    """What ``name`` is on this machine; pulled where it is not there.

    Raises:
        BaseImageError: it cannot be had.
    """
    found = _inspect(name)
    if found is None:
        pulled = _docker("pull", "--quiet", name)
        found = _inspect(name)
        if found is None:
            said = pulled.stderr.strip().splitlines()
            raise BaseImageError(f"{name} is not here and cannot be pulled: {said[-1] if said else 'no reason given'}")
    plain = name.partition("@")[0]
    digests = [entry.partition("@")[2] for entry in found.get("RepoDigests") or ()]
    if not digests:
        return BaseImage(name, found["Id"], name)
    asked = name.partition("@")[2]
    digest = asked if asked in digests else digests[0]
    return BaseImage(name, digest, f"{plain}@{digest}")


def keep(base: BaseImage, lock: Path, *, new: bool) -> None:
    """Write ``lock`` at the first build, or where a ``new`` one is asked for; else compare.

    Raises:
        BaseImageError: it says another digest.
    """
    words = lock.read_text(encoding="utf-8").split() if lock.exists() else []
    if words and words[-1] != base.digest and not new:
        raise BaseImageError(
            f"{base.name} is {base.digest}, but {lock} says {words[-1]}, on which was built before; "
            "`make build NEW_BASE=1` takes the new one, WHETSTONE_PYTHON_IMAGE names the old one by its digest"
        )
    if words[-1:] != [base.digest]:
        lock.write_text(f"{base.name} {base.digest}\n", encoding="utf-8")


def built_on(image: str) -> tuple[str, str] | None:
    """Name and digest of the base that a built image's labels tell; None where it is not here or does not say."""
    found = _inspect(image)
    labels = ((found or {}).get("Config") or {}).get("Labels") or {}
    if DIGEST_LABEL not in labels or labels[DIGEST_LABEL] == "unknown":  # built past `make build`
        return None
    return labels[NAME_LABEL], labels[DIGEST_LABEL]


def _default() -> str:
    [name] = _DEFAULT.findall(_DOCKERFILE.read_text(encoding="utf-8"))
    return str(name)


def _inspect(name: str) -> dict[str, Any] | None:
    done = _docker("image", "inspect", name)
    return json.loads(done.stdout)[0] if done.returncode == 0 else None


def _docker(*asked: str) -> subprocess.CompletedProcess[str]:
    words = ["docker", *asked]
    try:
        return subprocess.run(words, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise BaseImageError("there is no `docker` on the PATH; install Docker Engine") from error


if __name__ == "__main__":
    sys.exit(main())
