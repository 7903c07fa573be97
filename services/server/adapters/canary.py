"""Canaries: begun and ended as the pointer says, or by themselves where their answers fail.

A canary that trips sends every new request to the version in service at once, and stays tripped over restarts. The registry is
mounted read-only here, so the pointer is left to the operator: `make canary PERCENT=0`, or a promotion, takes it back.
"""

from collections.abc import Mapping
from pathlib import Path

import msgspec
import structlog

from services.common.durable import replace_file
from services.registry.pointer import Canary
from services.server.adapters.catalogue import Catalogue, Entry
from services.server.adapters.running_canary import RunningCanary
from services.server.metrics import Metrics
from services.server.settings import CanarySettings

log = structlog.get_logger(__name__)


class _Trip(msgspec.Struct, frozen=True):
    version: int
    began: str
    reason: str


class Canaries:
    """Every adapter's canary. Written by the reconciler and by requests that end, both on the event loop.

    Args:
        settings: when a canary trips.
        file: where trips outlive a restart.
    """

    def __init__(self, settings: CanarySettings, catalogue: Catalogue, metrics: Metrics, file: Path) -> None:
        self._settings = settings
        self._catalogue = catalogue
        self._metrics = metrics
        self._file = file
        self._trips = self._read_trips()

    def route(self, entry: Entry, canary: Canary | None) -> None:
        """Begin, keep or end the adapter's canary as its pointer says, once the version is loaded."""
        version = entry.loaded.get(canary.version) if canary is not None else None
        if canary is None or version is None or version is entry.serving:
            entry.canary = None
            return
        running = entry.canary
        if running is not None and (running.canary, running.version) == (canary, version):
            return
        trip = self._trips.get(entry.name)
        known = trip is not None and (trip.version, trip.began) == (canary.version, canary.began)
        entry.canary = RunningCanary(
            entry.name, canary, version, self._settings.window, trip.reason if trip is not None and known else None
        )
        log.info("canary", model=version.handle.name, percent=canary.percent, tripped=entry.canary.tripped)

    def note(self, alias: str, model: str, *, failed: bool, finish_reasons: Mapping[str, int]) -> None:
        """Take in how a request of ``alias`` ended, which ``model`` answered; ends its canary where that is due."""
        entry = self._catalogue.entries.get(alias)
        if entry is None or (running := entry.canary) is None or running.tripped is not None:
            return
        if model != running.version.handle.name:
            running.others.note(failed=failed, finish_reasons=finish_reasons)
            return
        running.own.note(failed=failed, finish_reasons=finish_reasons)
        if (reason := self._objection(running)) is not None:
            self._trip(entry, running, reason)

    def _objection(self, running: RunningCanary) -> str | None:
        settings, own, others = self._settings, running.own, running.others
        # What was not asked yet counts as answered: a version that only fails is found at its first few failures.
        if own.failures > settings.max_error_share * max(len(own.requests), settings.min_answers):
            return (
                f"{own.failures} of its last {len(own.requests)} requests failed "
                f"(canary.max_error_share = {settings.max_error_share:.0%})"
            )
        enough = min(len(own.endings), len(others.endings)) >= settings.min_answers
        if enough and own.length_share - others.length_share > settings.max_length_rise:
            return (
                f"{own.length_share:.0%} of its last {len(own.endings)} answers did not end by themselves, of the version in service "
                f"{others.length_share:.0%} (canary.max_length_rise = {settings.max_length_rise:.0%})"
            )
        return None

    def _trip(self, entry: Entry, running: RunningCanary, reason: str) -> None:
        running.tripped = reason
        self._metrics.canary_trips.labels(adapter=entry.name).inc()
        log.error("canary ended by itself", model=running.version.handle.name, reason=reason)
        self._trips[entry.name] = _Trip(running.canary.version, running.canary.began, reason)
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            replace_file(self._file, msgspec.json.encode(self._trips) + b"\n")
        except OSError as error:  # it is tripped all the same, until a restart
            log.error("canary's end cannot be kept", file=str(self._file), reason=error.strerror)  # noqa: TRY400 - no trace

    def _read_trips(self) -> dict[str, _Trip]:
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=dict[str, _Trip])
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            log.warning(
                "canaries that ended by themselves are not known any more", file=str(self._file), reason=str(error)
            )
            return {}
