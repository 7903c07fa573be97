"""What the server was asked to delete, the idle worker deletes."""

from services.registry.history import read_history
from services.registry.pointer import promote, read_pointer
from services.trainer.work.deletions import Deleter
from tests.support.adapters import publish_adapter
from tests.unit.trainer.work.office import Office


def test_versions_and_whole_adapters_go_once(office: Office) -> None:
    """Each deletion is carried out and done; the history says what went."""
    registry = office.house.registry
    for _ in range(3):
        publish_adapter(registry)
    promote(registry, "acme", 3)
    delete = Deleter(office.desk.deletions, registry)
    office.desk.deletions.add("acme", 1, newest=3, owner="app")
    delete()
    assert registry.versions("acme") == [2, 3]
    assert office.desk.deletions.all(pending=True) == []
    office.desk.deletions.add("acme", None, newest=3, owner="app")
    publish_adapter(registry)
    delete()
    assert (registry.versions("acme"), read_pointer(registry, "acme")) == ([4], None)
    assert [move.version for move in read_history(registry, "acme") if move.how == "deleted"] == [1, 2, 3]


def test_what_serves_by_now_waits_until_it_serves_no_more(office: Office) -> None:
    """A rollback came between the wish and the deletion; others are not held up by it."""
    registry = office.house.registry
    for _ in range(3):
        publish_adapter(registry)
    promote(registry, "acme", 1)
    delete = Deleter(office.desk.deletions, registry)
    office.desk.deletions.add("acme", 1, newest=3, owner="app")
    office.desk.deletions.add("acme", 2, newest=3, owner="app")
    delete()
    assert registry.versions("acme") == [1, 3]
    promote(registry, "acme", 3)
    delete()
    assert registry.versions("acme") == [3]
    assert office.desk.deletions.all(pending=True) == []
