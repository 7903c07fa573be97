"""Names of requests and answers."""

import os

_BYTES = 12
_AT_ONCE = 256

_drawn: list[str] = []


def unguessable() -> str:
    """A name that nobody was given before and nobody can guess: 24 hexadecimal digits."""
    try:
        return _drawn.pop()
    except IndexError:
        digits = os.urandom(_BYTES * _AT_ONCE).hex()  # many at once: each call lets other threads in before it returns
        width = 2 * _BYTES
        _drawn.extend(digits[start : start + width] for start in range(width, len(digits), width))
        return digits[:width]
