"""A registry that is written to, killed and cut off from power, beside a model of what it must hold afterwards."""

import asyncio
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from services.registry.check import Expectation, verify_version
from services.registry.history import read_history
from services.registry.layout import ADAPTER_WEIGHTS, Registry
from services.registry.manifest import ProbePrompt
from services.registry.pointer import Pointer, read_pointer
from services.registry.publish import publish, staging
from services.server.adapters.canary import Canaries
from services.server.adapters.catalogue import Catalogue
from services.server.adapters.probe import Prober
from services.server.adapters.reconcile import Reconciler
from services.server.adapters.view import RegistryView
from services.server.metrics import Metrics
from services.server.settings import CanarySettings
from tests.support.adapters import BASE, SHAPES, lineage, write_adapter
from tests.support.disk import Disk, Killed
from tests.unit.server.fakes import FakeEngine

ADAPTER = "acme"
PROBE = [ProbePrompt(token_ids=[1, 2, 3], base_logprobs=[-1.0, -1.0], adapter_logprobs=[-0.5, -0.5])]
EXPECTATION = Expectation(
    base_fingerprint=BASE.fingerprint,
    chat_template_sha256=BASE.chat_template_sha256,
    max_rank=16,
    target_modules=frozenset({"q_proj"}),
    base_shapes=SHAPES,
)


class Crash(NamedTuple):
    """How an operation is cut off.

    Attributes:
        step: before which it is killed; an operation of fewer steps ends first.
        cut: whether the power goes, too.
        seed: picks what that loses.
        loss: how much, from 0 to 1.
    """

    step: int
    cut: bool
    seed: int
    loss: float

    def choose(self) -> Callable[[int], int]:
        """What is lost."""
        numbers = random.Random(self.seed)  # noqa: S311 - repeatable
        return lambda count: numbers.randrange(count) if numbers.random() < self.loss else 0


class Moved(NamedTuple):
    """A line of the history."""

    version: int
    before: int | None
    how: str


class State(NamedTuple):
    """What a registry holds, as far as anybody could tell the difference.

    Attributes:
        weights: bytes of every version, by number.
        pointer: without its times.
        moves: the history.
    """

    weights: dict[int, bytes]
    pointer: Pointer | None
    moves: tuple[Moved, ...]

    def moved(self, version: int, before: int | None, how: str) -> "State":
        """With one more line of history."""
        return self._replace(moves=(*self.moves, Moved(version, before, how)))

    def without(self, version: int) -> "State":
        """With one version less."""
        return self._replace(weights={number: raw for number, raw in self.weights.items() if number != version})


EMPTY = State({}, None, ())


def timeless(pointer: Pointer | None) -> Pointer | None:
    """A pointer as the model knows it."""
    if pointer is None:
        return None
    canary = pointer.canary and msgspec.structs.replace(pointer.canary, began="")
    return msgspec.structs.replace(pointer, moved="", canary=canary)


class House:
    """A registry on a disk that forgets, and what its writers were promised.

    Args:
        root: an empty folder.

    Attributes:
        now: what it holds.
        given: every number that was ever seen, with its bytes.
    """

    def __init__(self, root: Path) -> None:
        self.registry = Registry(root / "registry")
        self.registry.root.mkdir()
        self.disk = Disk(self.registry.root)
        self.now = EMPTY
        self.given: dict[int, bytes] = {}
        self._trips = root / "canaries.json"
        # What a killed writer left undone or unsynced, and a power cut may still undo or bring back.
        self._unsure_versions: set[int] = set()
        self._unsure_pointers: list[Pointer | None] = []
        self._sure_moves = 0
        self.start_server()

    def do(self, write: Callable[[], Any], way: Sequence[State], crash: Crash | None) -> bool:
        """Write, and hold the registry against the ``way`` from now to done: a kill leaves one of these states, the end the last.

        Returns:
            whether the write was not killed.
        """
        try:
            with self.disk.writing(crash.step if crash else None):
                write()
        except Killed:
            self._unsure_versions |= {n for state in way for n in state.weights.keys() ^ self.now.weights.keys()}
            self._unsure_pointers += [state.pointer for state in way]
            seen = self.look()
            assert seen in way, f"killed at step {self.disk.steps}: {seen}"
            self.now = seen
        else:
            assert self.look() == way[-1]
            self._acknowledge(way[-1])
        killed = self.disk.steps == (crash.step if crash else None)
        if crash and crash.cut:
            self.cut_power(crash)
        return not killed

    def cut_power(self, crash: Crash) -> None:
        """Lose what was not synced. What was acknowledged is there afterwards, and nothing is half there."""
        before = self.now
        self.disk.cut_power(crash.choose())
        seen = self.look()
        for number in before.weights.keys() ^ seen.weights.keys():
            assert number in self._unsure_versions, f"version {number} came or went"
            if number not in seen.weights and number not in {move.version for move in seen.moves}:
                self.given.pop(number, None)  # nobody was told of it
        assert seen.pointer == before.pointer or seen.pointer in self._unsure_pointers
        assert len(seen.moves) >= self._sure_moves
        assert seen.moves == before.moves[: len(seen.moves)]
        self.now = seen
        self._settle()
        self.start_server()
        self.reload()

    def look(self) -> State:
        """Everything that is published, whole or an error; what the pointer names is among it."""
        weights = {}
        for number in self.registry.versions(ADAPTER):
            verify_version(self.registry, ADAPTER, number)
            weights[number] = (self.registry.folder(ADAPTER, number) / ADAPTER_WEIGHTS).read_bytes()
            assert self.given.setdefault(number, weights[number]) == weights[number], f"number {number} was given twice"
        pointer = timeless(read_pointer(self.registry, ADAPTER))
        if pointer is not None:
            named = {pointer.version, pointer.previous, pointer.canary.version if pointer.canary else None} - {None}
            assert named <= weights.keys(), f"the pointer names {named - weights.keys()}, which is not there"
        moves = tuple(Moved(move.version, move.before, move.how) for move in read_history(self.registry, ADAPTER))
        return State(weights, pointer, moves)

    def publish(self, fill: float) -> None:
        """Publish a version whose weights are all ``fill``."""
        with staging(self.registry, ADAPTER) as staged:
            write_adapter(staged, fill=fill)
            publish(self.registry, ADAPTER, staged, msgspec.structs.replace(lineage(), probe=PROBE))

    def hidden(self) -> set[str]:
        """Names in the adapter's folder that are no part of the registry."""
        folder = self.registry.root / ADAPTER
        return {entry.name for entry in folder.iterdir() if entry.name.startswith(".")} if folder.is_dir() else set()

    def start_server(self) -> None:
        """A server that has nothing loaded yet; its engine is a fake, what it decides is not."""
        engine, catalogue, metrics = FakeEngine(), Catalogue("tiny"), Metrics()
        canary = CanarySettings(window=40, min_answers=10, max_error_share=0.2, max_length_rise=0.3)
        self.catalogue = catalogue
        self._reconciler = Reconciler(
            RegistryView(self.registry, list),
            engine,
            catalogue,
            Prober(engine, tolerance=0.01, min_change=0.01),
            metrics,
            Canaries(canary, catalogue, metrics, self._trips),
            expectation=EXPECTATION,
            capacity=8,
        )

    def reload(self) -> None:
        """The server follows: it serves what the pointer says, and refuses nothing."""
        asyncio.run(self._reconciler.reconcile())
        entry = self.catalogue.entries.get(ADAPTER)
        pointer = self.now.pointer
        assert entry is None or not entry.refused, entry and entry.refused
        serving = entry.serving.number if entry and entry.serving else None
        assert serving == (pointer.version if pointer else None)
        canary = entry.canary.version.number if entry and entry.canary else None
        assert canary == (pointer.canary.version if pointer and pointer.canary else None)

    def loaded(self) -> set[int]:
        """Versions that the server holds."""
        entry = self.catalogue.entries.get(ADAPTER)
        return set(entry.loaded) if entry else set()

    def _acknowledge(self, state: State) -> None:
        """A write came to its end, so that what it did cannot be lost any more."""
        if state.moves != self.now.moves:
            self._sure_moves = len(state.moves)
        if state != self.now:
            self._unsure_versions.clear()
            self._unsure_pointers.clear()
        self.now = state

    def _settle(self) -> None:
        self._unsure_versions.clear()
        self._unsure_pointers.clear()
        self._sure_moves = len(self.now.moves)
