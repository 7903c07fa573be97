"""The registry through kills and power cuts at every step: what was acknowledged stays, and nothing is half there.

A few hundred crashes in the fast tier; ``make crash-test`` runs the same for longer.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from services.registry.canary import begin_canary, end_canary
from services.registry.delete import delete_version
from services.registry.errors import RegistryError
from services.registry.pointer import Canary, Pointer, promote, rollback
from services.registry.retention import delete_old
from tests.crash.house import ADAPTER, Crash, House, State, timeless
from tests.support.adapters import weights

crashes = st.builds(
    Crash,
    step=st.integers(0, 27),
    cut=st.booleans(),
    seed=st.integers(0, 2**32),
    loss=st.sampled_from([0.1, 0.5, 0.9]),
)
maybe_crash = crashes | st.none()
picks = st.integers(0, 100)


class RegistryMachine(RuleBasedStateMachine):
    """Writers and a server on one registry, each operation perhaps cut off."""

    kills = 0
    cuts = 0

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self.house = House(Path(self._folder.name))
        self.fill = 0

    def teardown(self) -> None:
        type(self).kills += self.house.disk.kills
        type(self).cuts += self.house.disk.cuts
        self._folder.cleanup()

    @rule(crash=maybe_crash)
    def publish(self, crash: Crash | None) -> None:
        """Killed, there is no version or a whole one; done, nothing of killed ones is left."""
        house, self.fill = self.house, self.fill + 1
        number = max(house.given, default=0) + 1
        whole = house.now._replace(weights=house.now.weights | {number: weights(fill=self.fill)})
        if house.do(lambda: house.publish(self.fill), [house.now, whole], crash):
            assert not house.hidden() or (crash and crash.cut)

    @precondition(lambda self: self.house.now.weights)
    @rule(pick=picks, crash=maybe_crash)
    def promote(self, pick: int, crash: Crash | None) -> None:
        """The old pointer or the new one, and the line in the history after it."""
        now, version = self.house.now, self._version(pick)
        if now.pointer and now.pointer.version == version:
            way = [now]
        else:
            before = now.pointer.version if now.pointer else None
            way = self._move(Pointer(version=version, previous=before, moved=""), version, before, "operator")
        self.house.do(lambda: promote(self.house.registry, ADAPTER, version), way, crash)

    @precondition(lambda self: self.house.now.pointer and self.house.now.pointer.previous)
    @rule(crash=maybe_crash)
    def rollback(self, crash: Crash | None) -> None:
        """As a promotion."""
        pointer = self.house.now.pointer
        assert pointer is not None
        assert pointer.previous is not None
        back = Pointer(version=pointer.previous, previous=pointer.version, moved="")
        way = self._move(back, pointer.previous, pointer.version, "rollback")
        self.house.do(lambda: rollback(self.house.registry, ADAPTER), way, crash)

    @precondition(lambda self: self.house.now.pointer and len(self.house.now.weights) > 1)
    @rule(pick=picks, percent=st.integers(1, 99), crash=maybe_crash)
    def begin_canary(self, pick: int, percent: int, crash: Crash | None) -> None:
        """As a promotion."""
        pointer, version = self.house.now.pointer, self._version(pick)
        assert pointer is not None
        if version == pointer.version:
            return
        canary = Canary(version=version, percent=percent, began="")
        shared = Pointer(version=pointer.version, previous=pointer.previous, moved="", canary=canary)
        way = self._move(shared, version, pointer.version, "canary")
        self.house.do(lambda: begin_canary(self.house.registry, ADAPTER, version, percent), way, crash)

    @precondition(lambda self: self.house.now.pointer and self.house.now.pointer.canary)
    @rule(crash=maybe_crash)
    def end_canary(self, crash: Crash | None) -> None:
        """As a promotion."""
        pointer = self.house.now.pointer
        assert pointer is not None
        assert pointer.canary is not None
        alone = Pointer(version=pointer.version, previous=pointer.previous, moved="")
        way = self._move(alone, pointer.version, pointer.canary.version, "canary ended")
        self.house.do(lambda: end_canary(self.house.registry, ADAPTER), way, crash)

    @precondition(lambda self: self.house.now.weights)
    @rule(keep=st.integers(1, 3), crash=maybe_crash)
    def collect(self, keep: int, crash: Crash | None) -> None:
        """Oldest first, and never what serves, could serve at once, is loaded, or is the newest."""
        now, in_use = self.house.now, self.house.loaded()
        held = in_use | set(sorted(now.weights)[-keep:])
        if now.pointer:
            held |= {now.pointer.version, now.pointer.previous or 0}
            held |= {now.pointer.canary.version} if now.pointer.canary else set()
        way = [now]
        for version in sorted(now.weights.keys() - held):
            way.append(way[-1].without(version))
        self.house.do(lambda: delete_old(self.house.registry, ADAPTER, keep=keep, in_use=in_use), way, crash)

    @precondition(lambda self: self.house.now.weights)
    @rule(pick=picks, crash=maybe_crash)
    def delete(self, pick: int, crash: Crash | None) -> None:
        """A rollback leads there no longer, then it is written down, then it goes; its number is not given again."""
        now, version = self.house.now, self._version(pick)
        if now.pointer and now.pointer.version == version:
            return
        forgotten = now
        if now.pointer:
            previous = None if now.pointer.previous == version else now.pointer.previous
            canary = None if now.pointer.canary and now.pointer.canary.version == version else now.pointer.canary
            forgotten = now._replace(
                pointer=Pointer(version=now.pointer.version, previous=previous, moved="", canary=canary)
            )
        told = forgotten.moved(version, version, "deleted")
        way = [now, forgotten, told, told.without(version)]
        self.house.do(lambda: delete_version(self.house.registry, ADAPTER, version), way, crash)

    @rule()
    def reload(self) -> None:
        """A running server follows."""
        self.house.reload()

    @rule()
    def restart(self) -> None:
        """A new server finds the same."""
        self.house.start_server()
        self.house.reload()

    @rule(crash=crashes)
    def power_cut(self, crash: Crash) -> None:
        """Between operations."""
        self.house.cut_power(crash)

    def _version(self, pick: int) -> int:
        versions = sorted(self.house.now.weights)
        return versions[pick % len(versions)]

    def _move(self, pointer: Pointer, version: int, before: int | None, how: str) -> list[State]:
        moved = self.house.now._replace(pointer=timeless(pointer))
        return [self.house.now, moved, moved.moved(version, before, how)]


def run(**changes: Any) -> tuple[int, int]:
    """Many orders of operations; how many kills and power cuts there were."""
    RegistryMachine.kills = RegistryMachine.cuts = 0
    plain = settings(deadline=None, suppress_health_check=list(HealthCheck), stateful_step_count=30, **changes)
    run_state_machine_as_test(RegistryMachine, settings=plain)
    return RegistryMachine.kills, RegistryMachine.cuts


def test_kills_and_power_cuts_lose_nothing_that_was_acknowledged(
    record_property: Callable[[str, object], None],
) -> None:
    """Whatever the order of operations, and wherever each is cut off: old or new, whole, and no number given twice."""
    kills, cuts = run()
    record_property("kills", kills)
    record_property("power cuts", cuts)
    assert min(kills, cuts) >= settings().max_examples, "so few crashes show nothing"


@pytest.mark.parametrize(
    ("where", "without"),
    [
        ("services.registry.publish.sync_file", None),
        ("services.registry.publish.write_file", Path.write_bytes),
        ("services.registry.publish.sync_folder", None),
        ("services.registry.pointer.replace_file", Path.write_bytes),
        ("services.registry.history.sync_folder", None),
        ("services.registry.retention.sync_folder", None),
        ("services.registry.publish.remove_leftovers", None),
    ],
)
def test_one_step_left_out_is_found(monkeypatch: pytest.MonkeyPatch, where: str, without: Any) -> None:
    """A file, a manifest, a name, a pointer, a line or a deletion that is not synced, and leftovers that are not removed."""
    monkeypatch.setattr(where, without or (lambda *_arguments: None))
    with pytest.raises((AssertionError, RegistryError, OSError)):
        run(max_examples=1000, phases=[Phase.generate], database=None, derandomize=True, report_multiple_bugs=False)
