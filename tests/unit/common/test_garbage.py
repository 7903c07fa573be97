"""What is imported is not searched for garbage; what comes later is."""

import gc
import sys
import weakref
from collections.abc import Iterator

import pytest

from services.common.garbage import importing


@pytest.fixture(autouse=True)
def _thawed() -> Iterator[None]:
    yield
    gc.unfreeze()


class Knot:
    """Holds itself."""

    def __init__(self) -> None:
        self.itself = self


def knot() -> "weakref.ref[Knot]":
    return weakref.ref(Knot())


def import_something(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "something", sys)


def test_nothing_is_collected_while_something_is_imported_nor_of_it_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    with importing():
        import_something(monkeypatch)
        made = knot()
        assert not gc.isenabled()
    assert gc.isenabled()
    gc.collect()
    assert made() is not None
    gc.unfreeze()
    gc.collect()
    assert made() is None


def test_what_had_been_imported_already_keeps_nothing() -> None:
    """So that it may be done as often as anybody likes."""
    with importing():
        made = knot()
    gc.collect()
    assert made() is None


def test_a_failing_import_leaves_the_collector_as_it_was() -> None:
    with pytest.raises(ImportError), importing():
        raise ImportError
    assert gc.isenabled()
