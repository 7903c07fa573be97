"""When new prompts of a busy server wait for others to begin with."""

BUSY = 64  # running answers, below which nothing waits
SHARE = 8  # of the running answers: as many waiting prompts begin at once
STEPS = 2  # of the engine, that a prompt waits at most


class Gathering:
    """Decides before each step; one for each engine."""

    def __init__(self) -> None:
        self._steps = 0

    def puts_off(self, running: int, waiting: int) -> bool:
        """Whether the step is to leave new prompts out.

        Args:
            running: answers that the engine is at.
            waiting: prompts that it has not begun.
        """
        if running >= BUSY and 0 < waiting * SHARE < running and self._steps < STEPS:
            self._steps += 1
            return True
        self._steps = 0
        return False
