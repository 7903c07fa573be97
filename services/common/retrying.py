"""When a client that was turned away is to ask again. Standard library alone: the door has no more."""

import random

SERVICE_SECONDS = (
    60  # at most, where the service is away: OpenAI's older SDKs ignore what tells them to wait for longer
)
UNKNOWN_START_SECONDS = 30.0  # of a server that nobody has seen start
_SPARE_SECONDS = 5.0  # for the process before to end, and for what a new one does before it can count


def until_ready(start_seconds: float, elapsed: float = 0.0) -> int:
    """Seconds until a server is ready whose last start took ``start_seconds``, 0 where that is not known, and which began ``elapsed`` ago.

    One that takes longer than the last is thought to need half as long again: an SDK's two tries are few.
    """
    left = (start_seconds or UNKNOWN_START_SECONDS) - elapsed
    return round((left if left > 0 else elapsed / 2) + _SPARE_SECONDS)


def retry_headers(seconds: int, longest: int) -> list[tuple[bytes, bytes]]:
    """``Retry-After``, ``longest`` at most, and the same in milliseconds with up to half as much added by chance.

    OpenAI's SDKs prefer milliseconds and add no jitter: without ours a refused burst returns as the same burst.
    """
    seconds = min(seconds, longest)
    spread = min(seconds * random.uniform(1.0, 1.5), longest)  # noqa: S311 - no secret
    return [(b"retry-after", b"%d" % seconds), (b"retry-after-ms", b"%d" % (spread * 1000))]
