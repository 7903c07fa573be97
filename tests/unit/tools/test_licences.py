"""The licences of an image's parts, as the parts say themselves; how a package says it is in test_sbom.py."""

import json
from pathlib import Path

import pytest

from tools import licences

INSTALLED = {
    "one": ["License-Expression: MIT OR Apache-2.0"],
    "two": ["Classifier: License :: OSI Approved :: BSD License", "Classifier: License :: OSI Approved :: MIT License"],
    "silent": [],
}


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One with three packages, the last of which says nothing but ships a file."""
    for name, said in INSTALLED.items():
        folder = tmp_path / f"{name}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(
            "\n".join(["Metadata-Version: 2.4", f"Name: {name}", "Version: 1.0", *said, ""])
        )
    (tmp_path / "silent-1.0.dist-info" / "RECORD").write_text(
        "silent-1.0.dist-info/licenses/LICENSE.txt,,\nsilent.py,,\n"
    )
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    return tmp_path


@pytest.mark.usefixtures("image")
def test_every_package_is_listed_with_what_it_says() -> None:
    assert sorted(licences.packages()) == [
        ("one", "1.0", "MIT OR Apache-2.0"),
        ("silent", "1.0", "see its LICENSE.txt"),
        ("two", "1.0", "BSD License AND MIT License"),
    ]


def test_a_debian_package_is_read_off_its_copyright(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Machine-readable, as prose, or gone."""
    for name, text in (
        ("a", "Files: *\nLicense: GPL-2+\n\nLicense: BSD-3\nLicense: GPL-2+\n"),
        ("b", "It may be copied."),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "copyright").write_text(text)
    program = tmp_path / "dpkg-query"
    program.write_text("#!/bin/sh\nprintf 'a\\t1-1\\nb\\t2\\nc\\t3\\n'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(licences, "COPYRIGHTS", tmp_path)
    assert list(licences.system()) == [
        ("a", "1-1", "BSD-3 AND GPL-2+"),
        ("b", "2", f"see {tmp_path / 'b' / 'copyright'}"),
        ("c", "3", "unknown"),
    ]


@pytest.mark.parametrize(
    ("source", "file", "licence"),
    [
        ("hub:a/b", "LICENSE", "LICENSE: Apache License"),
        ("hub:a/b", None, "unknown; its card is at a/b"),
        ("package:one", None, "MIT OR Apache-2.0"),
        ("package:other", None, "that of other, which is not in this image"),
    ],
)
def test_a_base_models_licence_is_the_one_that_came_with_it(
    image: Path, source: str, file: str | None, licence: str
) -> None:
    folder = image / "models" / "tiny"
    folder.mkdir(parents=True)
    (folder / "whetstone.json").write_text(json.dumps({"name": "tiny", "source": source, "revision": "r"}))
    if file:
        (folder / file).write_text("\n   Apache License\n  Version 2.0\n")
    assert list(licences.models(image / "models")) == [("tiny", "r", licence)]


def test_the_table_has_one_line_for_each_part(
    image: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(licences, "MODELS", image)
    monkeypatch.setattr(licences, "system", lambda: iter([("libc6", "2", 'a "quoted", one')]))
    licences.main("server")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "server,python,one,1.0,MIT OR Apache-2.0"
    assert 'server,debian,libc6,2,"a ""quoted"", one"' in lines
    assert lines[-1].startswith("server,interpreter,python,3.")
