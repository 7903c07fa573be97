"""The bill of materials: nothing that is locked is missing, and no licence is made up."""

import json
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tools import sbom

HASH = "0" * 64


@pytest.mark.parametrize("image", sbom.IMAGES)
def test_every_locked_package_is_in_it(image: str) -> None:
    """By name, version and each of its hashes, nothing else; and CycloneDX's own schema holds."""
    lock = sbom.LOCKS / f"{image}.txt"
    text = sbom.document(image, sbom.locked(lock), [])
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    expected: dict[str, set[str]] = {}
    package = ""
    for word in lock.read_text().split():
        if word.startswith("--hash=sha256:"):
            expected[package].add(word.removeprefix("--hash=sha256:"))
        elif "==" in word:
            package = "pkg:pypi/" + word.replace("==", "@").replace("+", "%2B")
            expected[package] = set()
    assert all(expected.values())
    assert _hashes(json.loads(text)) == expected


def test_the_base_image_is_in_it_by_its_digest() -> None:
    """As a part of the image that another build can be compared with."""
    text = sbom.document("server-cpu", [], [], ("python:3.11-slim-bookworm@sha256:" + HASH, "sha256:" + HASH))
    [part] = json.loads(text)["components"]
    assert (part["type"], part["name"], part["version"]) == ("container", "python:3.11-slim-bookworm", "sha256:" + HASH)
    assert part["hashes"] == [{"alg": "SHA-256", "content": HASH}]


def test_every_image_gets_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the folder that is named, which is made; every lock of an image has one."""
    assert {f"{image}.txt" for image in sbom.IMAGES} == {file.name for file in sbom.LOCKS.glob("*-c*.txt")} - {
        "cpu-overrides.txt"
    }
    monkeypatch.setattr("sys.argv", ["sbom", "--out", str(tmp_path / "a" / "b")])
    monkeypatch.setattr(sbom, "IMAGES", ("trainer-cpu",))
    monkeypatch.setenv("PATH", str(tmp_path))  # where no docker is
    assert sbom.main() == 0
    assert (
        "without Debian packages, because the image cannot be read: there is no docker here" in capsys.readouterr().out
    )
    found = json.loads((tmp_path / "a" / "b" / "trainer-cpu.cdx.json").read_text())
    assert found["metadata"]["component"]["name"] == "whetstone-trainer-cpu"
    assert not any(str(tmp_path) in json.dumps(part) for part in found["components"])


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        (["License-Expression: MIT OR Apache-2.0", "License: other"], {"expression": "MIT OR Apache-2.0"}),
        (["License: MIT"], {"license": {"id": "MIT"}}),
        (["License: Apache 2.0"], {"license": {"name": "Apache 2.0"}}),
        (["Classifier: License :: OSI Approved :: BSD License"], {"license": {"name": "BSD License"}}),
        (
            ["License: Copyright", "        us", "Classifier: License :: OSI Approved :: ISC License"],
            {"license": {"name": "ISC License"}},
        ),
        (["License: MIT License", "        Copyright us"], {"license": {"name": "MIT License"}}),
        (["License: UNKNOWN"], None),
        (["Classifier: License :: OSI Approved"], None),
        ([], None),
    ],
)
def test_a_licence_is_what_the_package_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, metadata: list[str], expected: dict[str, Any] | None
) -> None:
    """In the field that says it best, as declared; where none does, it is unknown."""
    _install(tmp_path, monkeypatch, metadata)
    assert _licence("made-up", "1.0+cpu") == (_declared(expected) if expected else {"license": {"name": "unknown"}})


def test_another_versions_licence_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither of a version that is not installed nor of a package that is not."""
    _install(tmp_path, monkeypatch, ["License: MIT"])
    assert _licence("made-up", "1.1") == _licence("never-made", "1.0") == {"license": {"name": "unknown"}}


@pytest.mark.parametrize(
    "line",
    ["made-up==1.0", f"made-up>=1.0 --hash=sha256:{HASH}", "made-up @ file:///secret", "made-up==1.0 --hash=sha256:0"],
)
def test_what_is_not_locked_is_refused(tmp_path: Path, line: str) -> None:
    """By the lock's name, with the remedy."""
    (tmp_path / "a.txt").write_text(f"# a comment\nother==1 \\\n    --hash=sha256:{HASH}\n{line}\n")
    with pytest.raises(sbom.SbomError, match=r"^a\.txt: made-up\S* has no version or no hash; lock anew"):
        sbom.locked(tmp_path / "a.txt")


def _hashes(document: Any) -> dict[str, set[str]]:
    return {part["purl"]: {entry["content"] for entry in part["hashes"]} for part in document["components"]}


def _licence(name: str, version: str) -> Any:
    package = sbom.Package(name, version, (HASH,))
    (part,) = json.loads(sbom.document("server-cpu", [package], []))["components"]
    (licence,) = part["licenses"]
    return licence


def _declared(licence: dict[str, Any]) -> dict[str, Any]:
    declared = {"acknowledgement": "declared"}
    return {"license": licence["license"] | declared} if "license" in licence else licence | declared


def _install(folder: Path, monkeypatch: pytest.MonkeyPatch, metadata: list[str]) -> None:
    (folder / "made_up-1.0.dist-info").mkdir()
    text = "\n".join(["Metadata-Version: 2.4", "Name: made-up", "Version: 1.0", *metadata])
    (folder / "made_up-1.0.dist-info" / "METADATA").write_text(text + "\n")
    monkeypatch.syspath_prepend(folder)
