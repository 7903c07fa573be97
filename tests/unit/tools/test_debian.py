"""An image's Debian packages in its bill of materials, off records as dpkg writes them."""

import io
import json
import tarfile
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tools import debian, sbom

STATUS = """Package: libc6
Status: install ok installed
Architecture: amd64
Multi-Arch: same
Source: glibc
Version: 2.36-9+deb12u10
Description: GNU C Library: Shared libraries
 Contains the standard libraries.
 .
 Version: 9 is no field of this record

Package: libgcc-s1
Status: install ok installed
Architecture: amd64
Version: 12.2.0-14+deb12u1

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1

Package: tzdata
Status: install ok installed
Architecture: all
Version: 1:2025b-0
"""
FILES = {
    debian.STATUS: STATUS,
    debian.RELEASE: 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nVERSION_ID="12"\nID=debian\n',
    "usr/share/doc/libc6/copyright": "Files: *\nLicense: LGPL-2.1+\n\nLicense: GPL-2+\nLicense: LGPL-2.1+\n",
    "usr/share/doc/gcc-12-base/copyright": "License: GPL-3+ with GCC exception\n",
    "usr/share/doc/tzdata/copyright": "It may be copied.",
}
LINKS = {"usr/share/doc/libgcc-s1": "gcc-12-base"}
PURLS = {
    "pkg:deb/debian/libc6@2.36-9%2Bdeb12u10?arch=amd64&distro=debian-12": ["GPL-2+", "LGPL-2.1+"],
    "pkg:deb/debian/libgcc-s1@12.2.0-14%2Bdeb12u1?arch=amd64&distro=debian-12": ["GPL-3+ with GCC exception"],
    "pkg:deb/debian/tzdata@1:2025b-0?arch=all&distro=debian-12": [],
}


def archive(files: dict[str, str]) -> bytes:
    """As tar in the image writes it, links included."""
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as tar:
        for name, target in LINKS.items():
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, target
            tar.addfile(link)
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
    return whole.getvalue()


def test_every_installed_package_is_in_the_document() -> None:
    """By purl, with the licences that its copyright file names, be it another package's; none is made up, and the schema holds."""
    text = sbom.document("server-cpu", [], debian.packages_of(archive(FILES)))
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    found = {
        part["purl"]: [entry["license"]["name"] for entry in part.get("licenses", [])]
        for part in json.loads(text)["components"]
    }
    assert found == PURLS
    assert {part["type"] for part in json.loads(text)["components"]} == {"library"}


def test_an_image_without_dpkgs_records_is_told() -> None:
    """Not taken for one without packages."""
    with pytest.raises(debian.ImageUnreadable, match="no /var/lib/dpkg/status"):
        debian.packages_of(archive({debian.RELEASE: ""}))


def test_an_image_is_read_by_a_container_that_fetches_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that `make build` made, without a network."""
    (tmp_path / "archive").write_bytes(archive(FILES))
    _docker(tmp_path, monkeypatch, f'echo "$@" >{tmp_path}/asked; cat {tmp_path}/archive')
    assert len(debian.installed(sbom.built_as("server-cuda"))) == len(PURLS)
    asked = (tmp_path / "asked").read_text()
    assert "--pull never --network none" in asked
    assert " whetstone-server:cuda " in asked


def test_why_an_image_cannot_be_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In Docker's first line."""
    _docker(tmp_path, monkeypatch, "echo 'docker: No such image' >&2; echo more >&2; exit 125")
    with pytest.raises(debian.ImageUnreadable, match=r"^docker: No such image$"):
        debian.installed("whetstone-server:cuda")


def _docker(folder: Path, monkeypatch: pytest.MonkeyPatch, does: str) -> None:
    """A stand-in that does this."""
    program = folder / "docker"
    program.write_text(f"#!/bin/sh\n{does}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
