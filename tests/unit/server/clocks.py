"""A clock that a test moves."""


class Clock:
    """Seconds, as ``time.monotonic`` has them."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """The moment."""
        return self.now

    def pass_(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
