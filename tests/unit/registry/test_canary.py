"""The canary in the pointer: begun, ended, and never beside another move."""

import json
from pathlib import Path

import pytest

from services.registry.__main__ import main
from services.registry.canary import begin_canary
from services.registry.errors import RegistryError
from services.registry.history import read_history
from services.registry.layout import Registry
from services.registry.pointer import Pointer, promote, read_pointer, rollback
from tests.support.adapters import publish_adapter, write_judgement


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """Three versions, the second in service after the first, all but the third judged."""
    monkeypatch.setenv("WHETSTONE_DATA", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    registry = Registry(tmp_path / "registry")
    for _ in range(3):
        publish_adapter(registry)
    write_judgement(registry, 1)
    promote(registry, "acme", 1)
    promote(registry, "acme", 2)
    return registry


def _pointer(registry: Registry) -> Pointer:
    pointer = read_pointer(registry, "acme")
    assert pointer is not None
    return pointer


def test_a_canary_is_written_beside_the_version_in_service(
    registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    """Which serves on; the history and the list of versions tell of it."""
    assert main(["canary", "--version", "1", "--percent", "10"]) == 0
    assert "10% of the users of acme are to get acme@1" in capsys.readouterr().out
    pointer = _pointer(registry)
    assert (pointer.version, pointer.previous) == (2, 1)
    assert pointer.canary is not None
    assert (pointer.canary.version, pointer.canary.percent) == (1, 10)
    assert read_history(registry, "acme")[-1].how == "canary"
    assert main(["versions", "--json"]) == 0
    assert [row["state"] for row in json.loads(capsys.readouterr().out)] == ["canary 10%", "current", "candidate"]


def test_percent_0_ends_it_and_so_does_every_move(registry: Registry) -> None:
    """A canary of a state that is past would send users nobody knows where."""
    for end in (
        lambda: main(["canary", "--percent", "0"]),
        lambda: promote(registry, "acme", 3),
        lambda: rollback(registry, "acme"),
    ):
        assert main(["canary", "--version", "1", "--percent", "10"]) == 0
        end()
        assert _pointer(registry).canary is None
    assert [move.how for move in read_history(registry, "acme")][2:4] == ["canary", "canary ended"]


def test_a_version_that_did_not_pass_needs_force(registry: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    """As for a promotion, and recorded as there."""
    assert main(["canary", "--version", "3", "--percent", "5"]) == 1
    assert "it was not judged" in capsys.readouterr().err
    assert main(["canary", "--version", "3", "--percent", "5", "--force"]) == 0
    assert read_history(registry, "acme")[-1].reasons == ["it was not judged (`make judge VERSION=3`)"]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--version", "1", "--percent", "100"], "want 1 to 99"),
        (["--version", "2", "--percent", "10", "--force"], "serves everyone already"),
        (["--version", "9", "--percent", "10"], "is not published"),
        (["--percent", "10"], "which version?"),
        (["--percent", "0"], "no canary is under way"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_reason(
    registry: Registry, words: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["canary", *words]) == 1
    assert reason in capsys.readouterr().err
    assert _pointer(registry).canary is None


def test_without_a_version_in_service_there_is_nobody_to_share(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry")
    publish_adapter(registry)
    with pytest.raises(RegistryError, match="nothing serves yet"):
        begin_canary(registry, "acme", 1, 10)


def test_a_pointer_of_the_release_before_has_no_canary(registry: Registry) -> None:
    registry.pointer_file("acme").write_text('{"version":2,"previous":1,"moved":"2026-11-24T10:00:00.000+00:00"}')
    assert _pointer(registry).canary is None
