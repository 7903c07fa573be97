"""What is counted of each version's requests, in plain numbers: of Prometheus' own, each takes a lock, and a request counts in eight."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import accumulate

from prometheus_client import Metric
from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from services.server.chat.usage import Tally

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)  # the histograms' bounds
_BOUNDS = [*map(floatToGoString, SECONDS), "+Inf"]


class Distribution:
    """How many took how long."""

    def __init__(self) -> None:
        self._counts = [0] * len(_BOUNDS)
        self.sum = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        self._counts[bisect_left(SECONDS, seconds)] += 1
        self.sum += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """Prometheus' buckets: a bound, and how many took no longer."""
        return list(zip(_BOUNDS, accumulate(self._counts), strict=True))


class VersionCounts:
    """One version's, for the event loop's thread alone."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str]] = Counter()
        self.finished: Counter[str] = Counter()
        self.prompt_tokens = 0
        self.cached_tokens = 0
        self.completion_tokens = 0
        self.duration = Distribution()
        self.first_token = Distribution()

    def count(self, tally: Tally, *, route: str, outcome: str, seconds: float, first_token: float | None) -> None:
        """Count a request that has ended; ``seconds`` and ``first_token`` are from its beginning."""
        self.requests[route, outcome] += 1
        self.prompt_tokens += tally.prompt_tokens
        self.cached_tokens += tally.cached_tokens
        self.completion_tokens += tally.completion_tokens
        for reason, count in tally.finish_reasons.items():
            self.finished[reason] += count
        self.duration.add(seconds)
        if first_token is not None:
            self.first_token.add(first_token)


class Counts(Collector):
    """All versions', in Prometheus' terms when it asks."""

    def __init__(self) -> None:
        self._versions: dict[str, VersionCounts] = {}

    def of(self, model: str) -> VersionCounts:
        """Those of one version, or of the base."""
        found = self._versions.get(model)
        if found is None:
            found = self._versions[model] = VersionCounts()
        return found

    def collect(self) -> Iterable[Metric]:
        """See ``Collector.collect``."""
        return self._families()

    def _families(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "whetstone_requests",
            "Requests that were let in, by version and outcome.",
            labels=["model", "route", "outcome"],
        )
        tokens = CounterMetricFamily("whetstone_tokens", "Tokens, by version.", labels=["model", "kind"])
        finished = CounterMetricFamily(
            "whetstone_finish_reasons", "Answers by the reason they ended.", labels=["model", "reason"]
        )
        first_token = HistogramMetricFamily(
            "whetstone_first_token_seconds", "From the request to its first token.", labels=["model"]
        )
        duration = HistogramMetricFamily(
            "whetstone_request_seconds", "From the request to the end of its answer.", labels=["model"]
        )
        for model, counts in self._versions.items():
            for (route, outcome), count in counts.requests.items():
                requests.add_metric([model, route, outcome], count)
            tokens.add_metric([model, "prompt"], counts.prompt_tokens)
            tokens.add_metric([model, "cached"], counts.cached_tokens)
            tokens.add_metric([model, "completion"], counts.completion_tokens)
            for reason, count in counts.finished.items():
                finished.add_metric([model, reason], count)
            first_token.add_metric([model], counts.first_token.buckets(), counts.first_token.sum)
            duration.add_metric([model], counts.duration.buckets(), counts.duration.sum)
        yield from (requests, tokens, finished, first_token, duration)
