"""vLLM's scheduler for a busy server: new prompts wait a few steps, and begin together.

A step of running answers alone is one CUDA graph; one that holds a new prompt, too, costs the engine's process two to three times
as much, whether it holds one prompt or thirty. Where many short answers run, nearly every step holds some.
"""

from typing import Any

from services.server.engine.card.gathering import Gathering
from services.server.engine.card.lean import LeanScheduler


class GatheringScheduler(LeanScheduler):
    """Lets prompts wait for others, by vLLM's own way to put off prefills."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._gathering = Gathering()

    def schedule(self, throttle_prefills: bool = False) -> Any:  # noqa: FBT001, FBT002 - vLLM's signature
        """See ``SchedulerInterface.schedule``."""
        puts_off = self._gathering.puts_off(len(self.running), len(self.waiting))
        return super().schedule(throttle_prefills or puts_off)
