"""What retention deletes, and what it never does."""

from pathlib import Path

import pytest

from services.registry.history import read_history
from services.registry.layout import Registry
from services.registry.pointer import promote
from services.registry.publish import remove_leftovers
from services.registry.reports import report_file
from services.registry.retention import delete_old
from tests.support.adapters import publish_adapter, write_judgement


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """Eight versions; the fifth in service, the second before it."""
    registry = Registry(tmp_path / "registry")
    for version in range(1, 9):
        publish_adapter(registry)
        write_judgement(registry, version)
    promote(registry, "acme", 2)
    promote(registry, "acme", 5)
    return registry


def test_the_newest_and_what_serves_or_could_serve_stay(registry: Registry) -> None:
    """The two newest, the version in service, the one before, and the one that a server still holds."""
    assert delete_old(registry, "acme", keep=2, in_use=[3]) == [1, 4, 6]
    assert registry.versions("acme") == [2, 3, 5, 7, 8]
    assert delete_old(registry, "acme", keep=2, in_use=[3]) == []


def test_the_newest_stays_whatever_is_asked(registry: Registry) -> None:
    """So that no number is ever given twice: a client that pinned one gets that version or an error."""
    delete_old(registry, "acme", keep=0, in_use=[])
    assert registry.versions("acme") == [2, 5, 8]
    assert publish_adapter(registry).version == 9


def test_reports_and_history_outlive_the_version(registry: Registry) -> None:
    """An auditor can still read what the gate found of it."""
    delete_old(registry, "acme", keep=1, in_use=[])
    assert report_file(registry, "acme", 1, "json").is_file()
    assert len(read_history(registry, "acme")) == 2


def test_what_a_killed_deletion_left_is_removed(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """The version is out of sight from the rename on, and its bytes go with the next publish."""

    def killed(_folder: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("shutil.rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        delete_old(registry, "acme", keep=1, in_use=[])
    monkeypatch.undo()
    assert registry.versions("acme") == [2, 3, 4, 5, 6, 7, 8]
    assert len(remove_leftovers(registry, "acme")) == 1
