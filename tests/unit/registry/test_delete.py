"""What an owner deletes is gone, whatever named it; its report, its history and its number stay."""

from pathlib import Path

import pytest

from services.registry.canary import begin_canary
from services.registry.delete import delete_adapter, delete_version
from services.registry.errors import RegistryError
from services.registry.history import read_history
from services.registry.layout import Registry
from services.registry.pointer import promote, read_pointer
from services.registry.reports import report_file
from tests.support.adapters import publish_adapter, write_judgement


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """Four versions; the second in service, the first before it."""
    registry = Registry(tmp_path / "registry")
    for version in range(1, 5):
        publish_adapter(registry)
        write_judgement(registry, version)
    promote(registry, "acme", 1)
    promote(registry, "acme", 2)
    return registry


def test_a_version_goes_and_its_report_and_history_stay(registry: Registry) -> None:
    assert delete_version(registry, "acme", 3)
    assert registry.versions("acme") == [1, 2, 4]
    assert report_file(registry, "acme", 3, "json").is_file()
    assert [(move.how, move.version) for move in read_history(registry, "acme")][-1] == ("deleted", 3)


def test_the_version_in_service_stays_until_its_whole_adapter_goes(registry: Registry) -> None:
    with pytest.raises(RegistryError, match="acme@2 is in service; `make promote` another version, or delete all"):
        delete_version(registry, "acme", 2)
    assert registry.versions("acme") == [1, 2, 3, 4]
    assert delete_adapter(registry, "acme", newest=4) == [1, 2, 3, 4]
    assert registry.versions("acme") == []
    assert read_pointer(registry, "acme") is None


def test_the_pointer_names_no_version_that_is_gone(registry: Registry) -> None:
    """Neither as the one to return to nor as a canary; who serves does not change."""
    begin_canary(registry, "acme", 4, 10)
    delete_version(registry, "acme", 3)
    pointer = read_pointer(registry, "acme")
    assert pointer is not None
    assert (pointer.version, pointer.previous, pointer.canary and pointer.canary.version) == (2, 1, 4)
    delete_version(registry, "acme", 1)
    delete_version(registry, "acme", 4)
    pointer = read_pointer(registry, "acme")
    assert pointer is not None
    assert (pointer.version, pointer.previous, pointer.canary) == (2, None, None)


@pytest.mark.parametrize("whole", [False, True], ids=["the newest", "all"])
def test_a_deleted_number_is_never_given_again(registry: Registry, *, whole: bool) -> None:
    """A client that pinned it gets an error, not another model; an engine that cached it, no stale prefix."""
    if whole:
        delete_adapter(registry, "acme", newest=4)
    else:
        delete_version(registry, "acme", 4)
    assert publish_adapter(registry).version == 5


def test_a_deletion_that_was_killed_is_finished_by_the_next(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Out of service first: at no moment does the pointer lead to a version that is gone."""

    def killed(_folder: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("shutil.rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        delete_adapter(registry, "acme", newest=4)
    monkeypatch.undo()
    assert (read_pointer(registry, "acme"), registry.versions("acme")) == (None, [2, 3, 4])
    assert delete_adapter(registry, "acme", newest=4) == [2, 3, 4]
    assert delete_adapter(registry, "acme", newest=4) == []


def test_what_is_not_there_is_no_fault(registry: Registry) -> None:
    assert not delete_version(registry, "acme", 9)
    assert delete_adapter(registry, "nobody", newest=4) == []


def test_a_version_that_came_after_the_wish_to_delete_all_stays(registry: Registry) -> None:
    """In service or not: nobody asked for it to go."""
    publish_adapter(registry)
    promote(registry, "acme", 5)
    assert delete_adapter(registry, "acme", newest=4) == [1, 2, 3, 4]
    pointer = read_pointer(registry, "acme")
    assert pointer is not None
    assert (pointer.version, pointer.previous, registry.versions("acme")) == (5, None, [5])
