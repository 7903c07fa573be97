"""Brings the engine in line with the registry, beside running requests: load, probe, then route; never the other way round.

For each adapter the current version, a canary, the newest candidate and the previous version are kept loaded. A version that is refused
changes nothing for requests: the version that served goes on serving, and the reason stands in /readyz and the log.
"""

import asyncio
import itertools
from collections.abc import Callable, Iterable
from typing import Any

import structlog

from services.common.killpoints import passing
from services.jobs.errors import JobsError
from services.registry.check import Expectation, check_version
from services.registry.errors import RegistryError
from services.registry.layout import model_name
from services.registry.manifest import Manifest
from services.registry.pointer import Canary
from services.server.adapters.canary import Canaries
from services.server.adapters.catalogue import Catalogue, Entry, Refusal
from services.server.adapters.probe import Prober, ProbeRefused
from services.server.adapters.version import Version
from services.server.adapters.view import RegistryView
from services.server.engine.protocol import Engine, EngineAdapter, EngineDead, EngineError
from services.server.metrics import Metrics

log = structlog.get_logger(__name__)


class Reconciler:
    """Keeps ``catalogue`` and ``engine`` in line with the registry in ``view``. One ``reconcile`` runs at a time.

    Args:
        expectation: what a version must have been made for.
        capacity: versions that the engine holds in memory at once. An engine that holds more would drop one and read
            it again from disk in the middle of a request.

    Attributes:
        favour: told of each version that is put into service, with its adapter's name.
    """

    def __init__(
        self,
        view: RegistryView,
        engine: Engine,
        catalogue: Catalogue,
        prober: Prober,
        metrics: Metrics,
        canaries: Canaries,
        *,
        expectation: Expectation,
        capacity: int,
    ) -> None:
        self._view = view
        self._engine = engine
        self._catalogue = catalogue
        self._prober = prober
        self._metrics = metrics
        self._canaries = canaries
        self._wanted_canaries: dict[str, Canary | None] = {}
        self._expectation = expectation
        self._capacity = capacity
        self.favour: Callable[[str, Version], None] | None = None
        self._ids = itertools.count(1)
        self._retiring: list[Version] = []
        self.problem: str | None = None

    async def reconcile(self) -> None:
        """Look at the registry once and do what it asks for.

        Raises:
            EngineDead: the engine died; the process is to end.
        """
        plan = await self._plan()
        if plan is not None:
            await self._retire(plan)
            for entry, number in plan:
                if number not in entry.loaded:
                    await self._load(entry, number)
            for entry in self._catalogue.entries.values():
                self._route(entry)
                self._canaries.route(entry, self._wanted_canaries.get(entry.name))
            await self._retire(plan)
        await self._unload_released()

    async def _plan(self) -> list[tuple[Entry, int]] | None:
        """What should be loaded, most important first; None where the registry cannot be read and all stays as it is."""
        try:
            seen = await asyncio.to_thread(self._view.look)
        except (RegistryError, JobsError) as error:
            self._note_problem(str(error))
            self._catalogue.blind = not self._catalogue.entries
            return None
        self._catalogue.blind = False
        self._catalogue.deleted = seen.deleted
        if not seen.adapters and self._catalogue.entries:
            # A volume that lost every adapter at once was unmounted; what is loaded keeps serving.
            self._note_problem(f"{self._view.registry.root}: holds no adapter any more; check the volume")
            return None
        self._note_problem(None)
        currents, canaries, candidates, previous = [], [], [], []
        for name, adapter in seen.adapters.items():
            entry, pointer = self._catalogue.entries.setdefault(name, Entry(name)), adapter.pointer
            entry.problem = adapter.problem
            if entry.serving is not None and self._catalogue.is_deleted(name, entry.serving.number):
                entry.serving = entry.canary = None  # whoever began with it goes on until the end
            if adapter.problem is not None:
                currents += [(entry, number) for number in entry.loaded]
                continue
            entry.published = adapter.versions
            entry.wanted, entry.fallback = (pointer.version, pointer.previous) if pointer else (None, None)
            canary = self._wanted_canaries[name] = pointer.canary if pointer else None
            self._canaries.route(entry, canary)  # one that is over ends before its version is unloaded
            canaries += [(entry, canary.version)] if canary else []
            if pointer:
                currents.append((entry, pointer.version))
                previous += [(entry, pointer.previous)] if pointer.previous else []
            if entry.serving is not None:
                previous.append((entry, entry.serving.number))
            candidates += [(entry, number) for number in adapter.versions[-1:]]
        for name in set(self._catalogue.entries) - set(seen.adapters):
            entry = self._catalogue.entries[name]
            entry.problem = "its folder is gone from the registry; what is loaded keeps serving"
            currents += [(entry, number) for number in entry.loaded]
        return list(dict.fromkeys([*currents, *canaries, *candidates, *previous]))

    async def _load(self, entry: Entry, number: int) -> None:
        """Check, load and probe one version; on any refusal remember why and leave everything else as it is."""
        name = model_name(entry.name, number)
        folder = self._view.registry.folder(entry.name, number)
        signature = await asyncio.to_thread(_signature, folder)
        known = entry.refused.get(number)
        if known is not None and known.signature == signature:
            return
        if self._held() >= self._capacity:
            self._refuse(
                entry, number, "no room: every place of engine.max_cpu_loras is taken; raise it", signature=object()
            )
            return
        try:
            manifest = await asyncio.to_thread(
                check_version, self._view.registry, entry.name, number, self._expectation
            )
            passing("loading: checked")
            version = await self._load_and_probe(
                manifest, EngineAdapter(name=name, engine_id=next(self._ids), path=folder)
            )
        except EngineDead:
            raise
        except (RegistryError, EngineError, ProbeRefused, OSError) as error:
            self._refuse(entry, number, str(error).removeprefix(f"{name}: "), signature=signature)
            return
        passing("loading: probed")
        entry.loaded[number] = version
        entry.refused.pop(number, None)

    async def _load_and_probe(self, manifest: Manifest, handle: EngineAdapter) -> Version:
        await self._engine.load(handle)
        passing("loading: loaded")
        try:
            result = await self._prober.probe(manifest, handle)
        except EngineDead:
            raise
        except BaseException:
            await self._engine.unload(handle)
            raise
        log.info(
            "adapter version loaded",
            model=handle.name,
            probe_error=round(result.error, 5),
            probe_change=round(result.change, 5),
            probe_base_error=round(result.base_error, 5),
        )
        return Version(manifest, handle)

    def _route(self, entry: Entry) -> None:
        """Point the alias at the wanted version if it is loaded; on a start with a damaged one, at the previous."""
        if entry.problem is not None or entry.wanted is None:
            return
        chosen = entry.loaded.get(entry.wanted) or entry.serving
        if chosen is None and entry.fallback is not None:
            chosen = entry.loaded.get(entry.fallback)
        if chosen is None or chosen is entry.serving:
            return
        before = entry.serving.handle.name if entry.serving else None
        entry.serving = chosen
        passing("loading: in service")
        if self.favour is not None:
            self.favour(entry.name, chosen)
        self._metrics.swaps.labels(adapter=entry.name).inc()
        log.info(
            "adapter version in service",
            adapter=entry.name,
            model=chosen.handle.name,
            before=before,
            wanted=entry.wanted,
        )

    async def _retire(self, plan: list[tuple[Entry, int]]) -> None:
        """Take versions out of the catalogue that the plan does not hold, or that it holds beyond the capacity."""
        keep = set(plan[: self._capacity])
        for entry in self._catalogue.entries.values():
            for number in [number for number in entry.loaded if (entry, number) not in keep]:
                if entry.loaded[number] is entry.serving:
                    continue
                version = entry.loaded.pop(number)
                if entry.canary is not None and entry.canary.version is version:
                    entry.canary = None
                self._retiring.append(version)
            for number in [number for number in entry.refused if (entry, number) not in plan]:
                del entry.refused[number]
        await self._unload_released()

    async def _unload_released(self) -> None:
        for version in [version for version in self._retiring if version.leases == 0]:
            self._retiring.remove(version)
            await self._engine.unload(version.handle)
            log.info("adapter version unloaded", model=version.handle.name)

    def _held(self) -> int:
        return sum(len(entry.loaded) for entry in self._catalogue.entries.values()) + len(self._retiring)

    def _refuse(self, entry: Entry, number: int, reason: str, *, signature: object) -> None:
        known = entry.refused.get(number)
        entry.refused[number] = Refusal(reason=reason, signature=signature)
        if known is None or known.reason != reason:
            self._metrics.refused.labels(adapter=entry.name).inc()
            serving = entry.serving.handle.name if entry.serving else None
            log.error("adapter version refused", model=model_name(entry.name, number), reason=reason, serving=serving)

    def _note_problem(self, problem: str | None) -> None:
        if problem is not None and problem != self.problem:
            log.error("registry cannot be read", reason=problem)
        self.problem = problem


def _signature(folder: Any) -> Iterable[object]:
    """Names, sizes and times of a version's files: a refused version is looked at again only when they change.

    The time of the last change, which a new owner or mode is, too.
    """
    try:
        entries = sorted(folder.iterdir())
        return [(entry.name, status.st_size, status.st_ctime_ns) for entry in entries for status in [entry.lstat()]]
    except OSError as error:
        return [type(error).__name__]
