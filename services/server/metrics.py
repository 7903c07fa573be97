"""The server's own counters, per version; vLLM's own are appended to them in /metrics."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from services.server.chat.usage import Tally

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class VersionMetrics:
    """One version's own children of the metrics below: finding a child by its labels costs more than counting.

    Args:
        metrics: that have the children.
        model: the version's name.
    """

    def __init__(self, metrics: "Metrics", model: str) -> None:
        self._metrics = metrics
        self._model = model
        self._requests: dict[tuple[str, str], Counter] = {}
        self._finished: dict[str, Counter] = {}
        self._prompt, self._cached, self._completion = (
            metrics.tokens.labels(model=model, kind=kind) for kind in ("prompt", "cached", "completion")
        )
        self._duration = metrics.duration.labels(model=model)
        self._first_token = metrics.first_token.labels(model=model)

    def count(self, tally: Tally, *, route: str, outcome: str, seconds: float, first_token: float | None) -> None:
        """Count a request that has ended; ``seconds`` and ``first_token`` are from its beginning."""
        request = self._requests.get((route, outcome))
        if request is None:
            request = self._metrics.requests.labels(model=self._model, route=route, outcome=outcome)
            self._requests[route, outcome] = request
        request.inc()
        self._prompt.inc(tally.prompt_tokens)
        self._cached.inc(tally.cached_tokens)
        self._completion.inc(tally.completion_tokens)
        for reason, count in tally.finish_reasons.items():
            if reason not in self._finished:
                self._finished[reason] = self._metrics.finished.labels(model=self._model, reason=reason)
            self._finished[reason].inc(count)
        self._duration.observe(seconds)
        if first_token is not None:
            self._first_token.observe(first_token)


class Metrics:
    """Counters on a registry of their own, so that two servers in one process (tests) do not meet."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self._registry = registry
        self._versions: dict[str, VersionMetrics] = {}
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

    def of(self, model: str) -> VersionMetrics:
        """The metrics of one version, or of the base."""
        found = self._versions.get(model)
        if found is None:
            found = self._versions[model] = VersionMetrics(self, model)
        return found

    def text(self) -> bytes:
        """Prometheus' text format."""
        return generate_latest(self._registry)
