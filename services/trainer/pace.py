"""How fast a training goes, and when it will be done."""

from services.trainer.training.job import Step


class Pace:
    """Counted from the first step that it is told of, which warms up."""

    def __init__(self) -> None:
        """No step was told yet."""
        self._first: Step | None = None

    def at(self, step: Step) -> tuple[float | None, float | None]:
        """Tokens per second until ``step``, and seconds that are left after it; None at the first one."""
        self._first = self._first or step
        seconds, steps = step.seconds - self._first.seconds, step.step - self._first.step
        rate = (step.tokens - self._first.tokens) / seconds if seconds > 0 else None
        return rate, seconds / steps * (step.of - step.step) if steps else None
