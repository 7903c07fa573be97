"""Names of requests and answers."""

import os
from collections.abc import Iterator

_BYTES = 12
_AT_ONCE = 256


def _names() -> Iterator[str]:
    while True:
        digits = os.urandom(_BYTES * _AT_ONCE).hex()  # many at once: each call lets other threads in before it returns
        yield from (digits[start : start + 2 * _BYTES] for start in range(0, len(digits), 2 * _BYTES))


_source = _names()


def unguessable() -> str:
    """A name that nobody was given before and nobody can guess: 24 hexadecimal digits. For the event loop's thread."""
    return next(_source)
