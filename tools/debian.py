"""What an image holds besides Python packages: its Debian packages, as its own records in /var/lib/dpkg/status name them."""

import io
import posixpath
import re
import subprocess
import tarfile
from email.message import Message
from email.parser import Parser
from typing import NamedTuple

from tools.licences import copyright_names

STATUS = "var/lib/dpkg/status"
RELEASE = "usr/lib/os-release"
COPYRIGHTS = "usr/share/doc"
_INSTALLED = "install ok installed"
_RELEASE_LINE = re.compile(r'^(ID|VERSION_ID)="?([^"\n]*)"?$', re.MULTILINE)


class ImageUnreadable(Exception):
    """No Docker, no such image here, or one without dpkg's records."""


class DebianPackage(NamedTuple):
    """An installed package.

    Attributes:
        distribution: such as ``debian-12``, by which scanners tell releases apart; empty where the image does not say.
        licences: as its copyright file names them; none where that is not machine-readable.
    """

    name: str
    version: str
    architecture: str
    distribution: str
    licences: tuple[str, ...]


def installed(image: str) -> list[DebianPackage]:
    """Read a built image, by a container without a network that is gone again.

    Args:
        image: its name and tag; it is not fetched.

    Raises:
        ImageUnreadable: see there.
    """
    words = ["docker", "run", "--rm", "--pull", "never", "--network", "none", "--entrypoint", "tar", image]
    try:
        read = subprocess.run(
            [*words, "-C", "/", "-cf", "-", STATUS, RELEASE, COPYRIGHTS], check=True, capture_output=True
        )
    except FileNotFoundError as error:
        raise ImageUnreadable("there is no docker here") from error
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip().splitlines()
        raise ImageUnreadable(said[0] if said else f"docker ended with {error.returncode}") from error
    return packages_of(read.stdout)


def packages_of(archive: bytes) -> list[DebianPackage]:
    """The packages that a tar archive's records name, sorted.

    Args:
        archive: of dpkg's status, os-release and the copyright files, by their paths in the image.

    Raises:
        ImageUnreadable: dpkg's status is not in it.
    """
    texts, links = _read(archive)
    if STATUS not in texts:
        raise ImageUnreadable(f"it holds no /{STATUS}")
    release = dict(_RELEASE_LINE.findall(texts.get(RELEASE, "")))
    distribution = "-".join(filter(None, (release.get("ID"), release.get("VERSION_ID"))))
    found = []
    for record in _records(texts[STATUS]):
        if record["Status"] == _INSTALLED:
            name = record["Package"]
            folder = links.get(f"{COPYRIGHTS}/{name}", f"{COPYRIGHTS}/{name}")
            licences = copyright_names(texts.get(f"{folder}/copyright", ""))
            found.append(DebianPackage(name, record["Version"], record["Architecture"], distribution, tuple(licences)))
    return sorted(found)


def _read(archive: bytes) -> tuple[dict[str, str], dict[str, str]]:
    """Texts of files, and where links lead, by paths from the image's root."""
    texts, links = {}, {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar:
            if member.issym():
                links[member.name] = posixpath.normpath(posixpath.join(posixpath.dirname(member.name), member.linkname))
            elif member.isfile() and member.name.endswith((STATUS, RELEASE, "/copyright")):
                content = tar.extractfile(member)
                texts[member.name] = content.read().decode(errors="replace") if content is not None else ""
    return texts, links


def _records(status: str) -> list[Message]:
    """https://manpages.debian.org/bookworm/dpkg-dev/deb-src-control.5: fields as in mail, records apart by an empty line."""
    return [Parser().parsestr(record) for record in re.split(r"\n{2,}", status) if record.strip()]
