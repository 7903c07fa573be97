"""When a client that was turned away is told to ask again."""

import pytest

from services.common.retrying import SERVICE_SECONDS, UNKNOWN_START_SECONDS, retry_headers, until_ready


@pytest.mark.parametrize(
    ("start_seconds", "elapsed", "waits"),
    [
        (40, 0, 45),
        (40, 30, 15),
        (40, 60, 35),  # longer than the last: half as long again
        (0, 0, UNKNOWN_START_SECONDS + 5),
        (0, 200, 105),
    ],
)
def test_a_wait_ends_when_the_server_is_likely_ready(start_seconds: int, elapsed: float, waits: int) -> None:
    """By how long the last start took, and by how long this one has."""
    assert until_ready(start_seconds, elapsed) == waits


@pytest.mark.parametrize(
    ("start_seconds", "slower"), [(1, 1.5), (20, 1.5), (45, 1.0), (45, 1.5), (60, 1.5), (90, 1.0), (120, 1.0)]
)
def test_two_retries_are_enough_for_a_start_like_the_last(start_seconds: int, slower: float) -> None:
    """Whenever a client first asks, and with the least of the waits that may be drawn: up to a minute also for one that takes half as long
    again, and up to two.
    """
    ready = start_seconds * slower
    for begun in (0.0, ready / 3, ready * 0.9):
        now = begun
        for _ in range(2):
            headers = dict(retry_headers(until_ready(start_seconds, now), SERVICE_SECONDS))
            now += int(headers[b"retry-after"])
        assert now >= ready


def test_waits_of_many_differ() -> None:
    """Else a burst that was refused would come back as one; none is longer than the longest."""
    drawn = {dict(retry_headers(20, 60))[b"retry-after-ms"] for _ in range(20)}
    assert len(drawn) > 1
    assert all(20_000 <= int(milliseconds) <= 30_000 for milliseconds in drawn)
    assert retry_headers(90, 60) == [(b"retry-after", b"60"), (b"retry-after-ms", b"60000")]
