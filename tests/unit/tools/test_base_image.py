"""The base image of the first build is that of the later ones; a ``docker`` that knows two images stands in for the real one."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tools import base_image
from tools.base_image import DIGEST_LABEL, LOCK, NAME_LABEL, built_on

OLD, NEW, ID = (f"sha256:{letter * 64}" for letter in "abc")
TAG = "python:3.11-slim-bookworm"


class Docker:
    """What its images are, by name; each may be changed, as a tag is.

    Attributes:
        images: what ``docker image inspect`` tells of each.
        remote: what ``docker pull`` brings.
    """

    def __init__(self, folder: Path) -> None:
        self._state = folder / "state.json"
        self.images: dict[str, Any] = {}
        self.remote: dict[str, Any] = {}
        program = folder / "docker"
        program.write_text(
            f"#!{sys.executable}\nimport json, sys\nfile = {str(self._state)!r}\nhere, remote = json.load(open(file))\n"
            "name = sys.argv[-1]\n"
            "if sys.argv[1] == 'pull' and name in remote:\n"
            "    here[name] = remote[name]\n    json.dump([here, remote], open(file, 'w'))\n"
            "if name not in here:\n    sys.exit('first line\\nno such image')\n"
            "print(json.dumps([here[name]]))\n"
        )
        program.chmod(0o755)

    def set_up(self) -> None:
        """Tell the program."""
        self._state.write_text(json.dumps([self.images, self.remote]))


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Docker:
    """One without images, on the PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("WHETSTONE_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("WHETSTONE_PYTHON_IMAGE", raising=False)
    return Docker(tmp_path)


def build(docker: Docker, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    """The exit code, the words for the build, and the sentence."""
    docker.set_up()
    monkeypatch.setattr("sys.argv", ["base_image", *words])
    code = base_image.main()
    said = capsys.readouterr()
    return code, said.out.split(), said.err


def test_a_tag_that_moved_is_refused_until_it_is_asked_for(
    docker: Docker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first build keeps what it was built on and names it by digest; the refusal has both digests and the remedy."""
    docker.remote[TAG] = {"Id": ID, "RepoDigests": [f"python@{OLD}"]}
    for _ in range(2):
        assert build(docker, monkeypatch, capsys) == (0, [f"{TAG}@{OLD}", OLD], f"base image: {TAG} is {OLD}\n")
    assert (tmp_path / LOCK).read_text() == f"{TAG} {OLD}\n"
    docker.images[TAG] = {"Id": ID, "RepoDigests": [f"python@{NEW}"]}
    code, words, said = build(docker, monkeypatch, capsys)
    assert (code, words) == (1, [])
    assert said.count("\n") == 1
    assert all(part in said for part in (NEW, OLD, "`make build NEW_BASE=1`"))
    assert (tmp_path / LOCK).read_text() == f"{TAG} {OLD}\n"
    assert build(docker, monkeypatch, capsys, "--new")[:2] == (0, [f"{TAG}@{NEW}", NEW])
    assert (tmp_path / LOCK).read_text() == f"{TAG} {NEW}\n"
    assert build(docker, monkeypatch, capsys)[0] == 0


def test_a_digest_that_the_operator_pins_is_kept(
    docker: Docker, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where the same image has others, of other registries."""
    pinned = f"{TAG}@{NEW}"
    monkeypatch.setenv("WHETSTONE_PYTHON_IMAGE", pinned)
    docker.images[pinned] = {"Id": ID, "RepoDigests": [f"mirror/python@{OLD}", f"python@{NEW}"]}
    assert build(docker, monkeypatch, capsys)[:2] == (0, [pinned, NEW])


def test_an_image_of_no_registry_is_known_by_its_id(
    docker: Docker, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As one that was loaded or imported is; there is no name that pins it."""
    docker.images[TAG] = {"Id": ID, "RepoDigests": []}
    assert build(docker, monkeypatch, capsys)[:2] == (0, [TAG, ID])


def test_one_that_cannot_be_had_is_one_sentence(
    docker: Docker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With Docker's reason; nothing is kept."""
    said = f"base image: {TAG} is not here and cannot be pulled: no such image\n"
    assert build(docker, monkeypatch, capsys) == (1, [], said)
    assert not (tmp_path / LOCK).exists()


def test_an_image_says_what_it_was_built_on(docker: Docker) -> None:
    """By its labels; one that was built past `make build`, or is not here, does not."""
    docker.images["whole"] = {"Config": {"Labels": {NAME_LABEL: TAG, DIGEST_LABEL: OLD}}}
    docker.images["past"] = {"Config": {"Labels": {NAME_LABEL: TAG, DIGEST_LABEL: "unknown"}}}
    docker.images["bare"] = {"Config": {"Labels": None}}
    docker.set_up()
    assert built_on("whole") == (TAG, OLD)
    assert [built_on(name) for name in ("past", "bare", "missing")] == [None, None, None]
