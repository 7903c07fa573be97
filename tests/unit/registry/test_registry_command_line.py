"""The verbs of ``python -m services.registry``: what they print, what they change, their exit codes."""

import json
from pathlib import Path
from typing import Any

import pytest

from services.registry.__main__ import main
from services.registry.layout import ADAPTER_WEIGHTS, MANIFEST, Registry
from services.registry.pointer import promote, read_pointer
from tests.support.adapters import publish_adapter, write_judgement
from tests.support.volumes import mode_bits_count, of_another_user


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """The registry that the command line works on: two versions of one adapter, the first promoted."""
    monkeypatch.setenv("WHETSTONE_DATA", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    registry = Registry(tmp_path / "registry")
    for version in (1, 2):
        publish_adapter(registry)
        write_judgement(registry, version)
    promote(registry, "acme", 1)
    return registry


def _damage(registry: Registry, version: int) -> None:
    file = registry.folder("acme", version) / ADAPTER_WEIGHTS
    file.write_bytes(file.read_bytes()[:-1])


def _printed(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("verb", ["", "versions", "promote", "rollback", "lineage", "verify"])
def test_help_says_what_each_verb_does(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    """And the command's own lists them all."""
    with pytest.raises(SystemExit) as ended:
        main([verb, "--help"] if verb else ["--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert all(
        word in shown for word in (("--adapter", "--json") if verb else ("versions", "promote", "rollback", "verify"))
    )


def test_an_empty_registry_is_told_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing published is no error for a list, and one for a move."""
    monkeypatch.setenv("WHETSTONE_DATA", str(tmp_path))
    assert main(["versions"]) == 0
    assert "make retrain" in capsys.readouterr().out
    assert main(["versions", "--json"]) == 0
    assert _printed(capsys) == []
    assert main(["verify"]) == 0
    assert main(["rollback"]) == 1
    assert "none published yet" in capsys.readouterr().err


def test_versions_lists_each_with_its_state(registry: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    """In a table and as JSON: what is current, previous, a candidate, kept or damaged."""
    assert main(["versions", "--json"]) == 0
    assert [(row["version"], row["state"]) for row in _printed(capsys)] == [(1, "current"), (2, "candidate")]
    promote(registry, "acme", 2)
    publish_adapter(registry)
    promote(registry, "acme", 3)
    (registry.folder("acme", 2) / MANIFEST).write_text("{")
    assert main(["versions"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in lines[1:]] == [
        ["acme", "1", "kept"],
        ["acme", "2", "damaged:"],
        ["acme", "3", "current"],
    ]
    assert "tiny-base" in lines[1]
    assert "manifest.json cannot be read" in lines[2]


@pytest.mark.parametrize(("place", "mended"), [("acme", False), ("acme/current.json", True)])
def test_versions_suggests_a_promotion_only_where_it_helps(
    registry: Registry, capsys: pytest.CaptureFixture[str], place: str, *, mended: bool
) -> None:
    """A pointer of another user's is written anew by a promotion; an adapter's folder is not opened by one."""
    path = registry.root / place
    with mode_bits_count(), of_another_user(path):
        assert main(["versions"]) == 1
        said = capsys.readouterr().err
        assert said.startswith(f"registry: {path}: Permission denied; check the volume and its owner")
        assert ("make promote ADAPTER=acme" in said) == mended
        assert (main(["promote", "--version", "2"]) == 0) == mended
        assert (main(["versions"]) == 0) == mended


def test_promote_says_what_is_to_serve_and_not_that_it_serves(
    registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only the pointer moved: whether the version serves is the server's to say."""
    assert main(["promote", "--version", "2"]) == 0
    said = capsys.readouterr().out
    assert said == (
        "acme@2 is the version to serve (before: 1); a running server follows within seconds (`make status`)\n"
    )
    pointer = read_pointer(registry, "acme")
    assert pointer is not None
    assert (pointer.version, pointer.previous) == (2, 1)
    assert main(["promote", "--version", "1", "--json"]) == 0
    moved = _printed(capsys)
    assert (moved["adapter"], moved["version"], moved["previous"]) == ("acme", 1, 2)


def test_promote_refuses_what_is_damaged_or_not_there(registry: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    """The pointer stays where it was."""
    _damage(registry, 2)
    assert main(["promote", "--version", "2"]) == 1
    assert "its manifest says" in capsys.readouterr().err
    assert main(["promote", "--version", "7"]) == 1
    assert "versions of acme: 1, 2" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main(["promote"])
    assert ended.value.code == 2
    pointer = read_pointer(registry, "acme")
    assert pointer is not None
    assert pointer.version == 1


def test_rollback_needs_a_version_before(registry: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    """After one promotion there is none; after two it leads back, and says so without claiming that it serves."""
    assert main(["rollback"]) == 1
    assert "no previous version to return to" in capsys.readouterr().err
    promote(registry, "acme", 2)
    assert main(["rollback"]) == 0
    assert "acme@1 is the version to serve (before: 2)" in capsys.readouterr().out
    assert main(["rollback", "--json"]) == 0
    assert _printed(capsys)["version"] == 2


def test_verify_names_the_damaged_version(registry: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 1 as soon as one is, with every version's result."""
    assert main(["verify"]) == 0
    assert capsys.readouterr().out == "acme@1: whole\nacme@2: whole\n"
    _damage(registry, 2)
    assert main(["verify"]) == 1
    assert "acme@2: adapter_model.safetensors has" in capsys.readouterr().out
    assert main(["verify", "--json"]) == 1
    assert [row["whole"] for row in _printed(capsys)] == [True, False]


def test_among_several_adapters_a_move_asks_which(registry: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    """A list covers them all; one that is not there is named with those that are."""
    publish_adapter(registry, "beta")
    write_judgement(registry, 1, adapter="beta")
    assert main(["promote", "--version", "1"]) == 1
    assert "which adapter? --adapter NAME, one of: acme, beta" in capsys.readouterr().err
    assert main(["promote", "--adapter", "beta", "--version", "1"]) == 0
    capsys.readouterr()
    assert main(["versions", "--json"]) == 0
    assert {row["adapter"] for row in _printed(capsys)} == {"acme", "beta"}
    assert main(["versions", "--adapter", "gamma"]) == 1
    assert "no adapter 'gamma'; published: acme, beta" in capsys.readouterr().err
