"""List the licence of everything in the image that this runs in, as CSV: Python packages, Debian packages, Python, base models.

`make licences` pipes this file into each image, where there is nothing but the standard library to rely on.
"""

import csv
import importlib.metadata
import json
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from email.message import Message
from pathlib import Path
from typing import Any

UNKNOWN = "unknown"
COPYRIGHTS = Path("/usr/share/doc")
MODELS = Path("/data/models")
_LICENCE_FILE = re.compile(r"(licen[cs]e|copying|notice)[^/]*", re.IGNORECASE)


def main(image: str) -> None:
    """Write ``image,kind,name,version,licence``, without a header: `make licences` lists several images."""
    table = csv.writer(sys.stdout, lineterminator="\n")
    for kind, rows in (("python", packages()), ("debian", system()), ("base model", models(MODELS))):
        table.writerows((image, kind, *row) for row in sorted(set(rows)))
    table.writerow((image, "interpreter", "python", platform.python_version(), "PSF-2.0"))


def declared(metadata: Message | Any) -> list[str]:
    """What a package says of its licence: an SPDX expression, or names; empty where it says nothing."""
    said = (metadata.get_all("License-Expression") or metadata.get_all("License") or [""])[0].strip()
    if said == "UNKNOWN":  # old setuptools wrote that where nothing was said
        said = ""
    if said and "\n" not in said:
        return [said]
    classified = [line.split(" :: ") for line in metadata.get_all("Classifier") or ()]
    names = [words[-1] for words in classified if words[0] == "License" and words[-1] != "OSI Approved"]
    # A whole text in the field for its name begins with the name, if there is any.
    return names or [line for line in [said.partition("\n")[0]] if line]


def copyright_names(text: str) -> list[str]:
    """Licences that a Debian copyright file names; none where it is prose.

    https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
    """
    return sorted(set(re.findall(r"^License:[ \t]*(\S.*)$", text, re.MULTILINE)))


def packages() -> Iterator[tuple[str, str, str]]:
    """Every installed Python package; where it names no licence, the files that hold one."""
    for package in importlib.metadata.distributions():
        names = declared(package.metadata)
        files = sorted({file.name for file in package.files or () if _LICENCE_FILE.fullmatch(file.name)})
        yield package.name, package.version, " AND ".join(names) or _told(files)


def system() -> Iterator[tuple[str, str, str]]:
    """Every Debian package, with the licences that its copyright file names."""
    words = ["dpkg-query", "--show", "--showformat=${Package}\t${Version}\n"]
    for line in subprocess.run(words, check=True, capture_output=True, text=True).stdout.splitlines():
        name, _, version = line.partition("\t")
        yield name, version, _of_copyright(COPYRIGHTS / name / "copyright")


def models(folder: Path) -> Iterator[tuple[str, str, str]]:
    """Every base model: by the licence files that came with it, or by the package that it is of."""
    for record in folder.glob("*/whetstone.json"):
        model = json.loads(record.read_bytes())
        kind, _, source = model["source"].partition(":")
        files = sorted(file for file in record.parent.iterdir() if _LICENCE_FILE.fullmatch(file.name))
        if files:
            licence = "; ".join(f"{file.name}: {_heading(file)}" for file in files)
        elif kind == "package":
            licence = _of_package(source)
        else:
            licence = f"{UNKNOWN}; its card is at {source}"
        yield model["name"], model["revision"], licence


def _of_package(name: str) -> str:
    try:
        return " AND ".join(declared(importlib.metadata.metadata(name))) or UNKNOWN
    except importlib.metadata.PackageNotFoundError:
        return f"that of {name}, which is not in this image"


def _of_copyright(file: Path) -> str:
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return UNKNOWN
    return " AND ".join(copyright_names(text)) or f"see {file}"


def _heading(file: Path) -> str:
    lines = [line.strip() for line in file.read_text(encoding="utf-8", errors="replace").splitlines()]
    return next((line for line in lines if line), UNKNOWN)


def _told(files: list[str]) -> str:
    return f"see its {', '.join(files)}" if files else UNKNOWN


if __name__ == "__main__":
    main(sys.argv[1])
