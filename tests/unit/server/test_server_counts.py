"""What is counted of versions, held against Prometheus' own counters and histograms."""

import random

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from services.server.chat.usage import Tally
from services.server.counts import SECONDS, Counts


def test_counts_are_those_of_prometheus_own_counters() -> None:
    """Line by line, but for when each began; bounds are in their buckets, what is longer than all of them in the last."""
    counts, ours, theirs = Counts(), CollectorRegistry(), CollectorRegistry()
    ours.register(counts)
    requests = Counter("whetstone_requests", "-", ["model", "route", "outcome"], registry=theirs)
    tokens = Counter("whetstone_tokens", "-", ["model", "kind"], registry=theirs)
    finished = Counter("whetstone_finish_reasons", "-", ["model", "reason"], registry=theirs)
    first = Histogram("whetstone_first_token_seconds", "-", ["model"], buckets=SECONDS, registry=theirs)
    whole = Histogram("whetstone_request_seconds", "-", ["model"], buckets=SECONDS, registry=theirs)
    draw = random.Random(1)  # noqa: S311 - not for secrets
    for _ in range(200):
        model, route = draw.choice(["acme@1", "acme@2", "base"]), draw.choice(["chat", "completions"])
        outcome, reason = draw.choice(["ok", "client_gone"]), draw.choice(["stop", "length"])
        seconds = draw.choice([*SECONDS, 0.0, 0.3, 301.0])
        begun = draw.choice([None, seconds / 2])
        tally = Tally(prompt_tokens=draw.randrange(9))
        tally.completion_tokens, tally.cached_tokens = draw.randrange(9), draw.randrange(3)
        tally.finish_reasons[reason] = draw.randrange(1, 3)
        counts.of(model).count(tally, route=route, outcome=outcome, seconds=seconds, first_token=begun)
        requests.labels(model, route, outcome).inc()
        for kind in ("prompt", "cached", "completion"):
            tokens.labels(model, kind).inc(getattr(tally, f"{kind}_tokens"))
        finished.labels(model, reason).inc(tally.finish_reasons[reason])
        whole.labels(model).observe(seconds)
        first.labels(model)
        if begun is not None:
            first.labels(model).observe(begun)
    assert _lines(ours) == _lines(theirs)
    assert 'whetstone_request_seconds_bucket{le="+Inf",model="base"}' in "\n".join(_lines(ours))


def _lines(registry: CollectorRegistry) -> list[str]:
    lines = generate_latest(registry).decode().splitlines()
    return sorted(line for line in lines if not line.startswith("#") and "_created{" not in line)
