"""The server's own counters; vLLM's own are appended to them in /metrics."""

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from services.server.counts import Counts


class Metrics:
    """Counters on a registry of their own, so that two servers in one process (tests) do not meet."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self._registry = registry
        self.versions = Counts()
        registry.register(self.versions)
        self.refusals = Counter(
            "whetstone_refusals", "Requests answered with an error status.", ["status", "code"], registry=registry
        )
        self.in_flight = Gauge("whetstone_answers_in_flight", "Answers running or waiting.", registry=registry)
        self.swaps = Counter(
            "whetstone_swaps", "Times an alias moved to another version.", ["adapter"], registry=registry
        )
        self.canary_trips = Counter(
            "whetstone_canary_trips", "Canaries that ended by themselves.", ["adapter"], registry=registry
        )
        self.refused = Counter(
            "whetstone_versions_refused", "Versions that were refused.", ["adapter"], registry=registry
        )

    def text(self) -> bytes:
        """Prometheus' text format."""
        return generate_latest(self._registry)
