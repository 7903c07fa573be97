"""The server's own counters, per version; vLLM's own are appended to them in /metrics."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """Counters on a registry of their own, so that two servers in one process (tests) do not meet."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self._registry = registry
        self.requests = Counter(
            "whetstone_requests",
            "Requests that were let in, by version and outcome.",
            ["model", "route", "outcome"],
            registry=registry,
        )
        self.refusals = Counter(
            "whetstone_refusals", "Requests answered with an error status.", ["status", "code"], registry=registry
        )
        self.tokens = Counter("whetstone_tokens", "Tokens, by version.", ["model", "kind"], registry=registry)
        self.finished = Counter(
            "whetstone_finish_reasons", "Answers by the reason they ended.", ["model", "reason"], registry=registry
        )
        self.first_token = Histogram(
            "whetstone_first_token_seconds",
            "From the request to its first token.",
            ["model"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.duration = Histogram(
            "whetstone_request_seconds",
            "From the request to the end of its answer.",
            ["model"],
            buckets=_SECONDS,
            registry=registry,
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
