"""One request's run through the engine: what it holds, what it yields, and what is counted when it ends."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

import msgspec
import structlog

from services.server.adapters.catalogue import Lease
from services.server.chat.usage import Tally
from services.server.engine.protocol import Delta, Engine, Sampling
from services.server.errors import Unavailable
from services.server.limits.meter import Meter
from services.server.services import Services

log = structlog.get_logger(__name__)


class Generation:
    """Prompts on one leased version; ``close`` it once, whatever happened.

    Args:
        route: for the metrics, such as ``chat``.
        key: the caller's key's name, for the log.
        identity: the answer's id; unique.
        slots: what admission let in; given back at the end.
        meter: of what the request costs its key.

    Attributes:
        outcome: for the metrics and the log: ``ok``, ``client_gone`` or an error's code.
        failed: it ended in an error of the engine or the server, which a canary answers for.
        work: the task that answers, once there is one.
        interruption: why the request is to end, where the server ends it.
    """

    def __init__(
        self,
        services: Services,
        engine: Engine,
        lease: Lease,
        *,
        route: str,
        key: str,
        identity: str,
        slots: int,
        meter: Meter,
    ) -> None:
        self._services = services
        self._engine = engine
        self._lease = lease
        self._route = route
        self._key = key
        self.identity = identity
        self._slots = slots
        self._meter = meter
        self._began = time.monotonic()
        self._first_token: float | None = None
        self.model = lease.model
        self.tally = Tally()
        self.outcome = "ok"
        self.failed = False
        self.work: asyncio.Task[None] | None = None
        self.interruption: Unavailable | None = None
        services.lifecycle.enter(self)

    async def deltas(self, prompts: list[list[int]], sampling: Sampling) -> AsyncGenerator[list[Delta], None]:
        """Deltas of all answers; prompt ``i``'s answers are numbered from ``i * n``. Closing it aborts the engine's work."""
        prompt_tokens = sum(map(len, prompts))
        self._meter.hold(prompt_tokens, len(prompts) * sampling.n)
        self.tally.prompt_tokens = prompt_tokens
        source = self._one(prompts[0], sampling) if len(prompts) == 1 else self._many(prompts, sampling)
        async with aclosing(source):
            async for deltas in source:
                if self._first_token is None:
                    self._first_token = time.monotonic() - self._began
                for delta in deltas:
                    self.tally.add(delta)
                yield deltas

    def _one(self, prompt: list[int], sampling: Sampling) -> AsyncGenerator[list[Delta], None]:
        return self._engine.generate(self.identity, prompt, sampling, self._lease.handle)

    async def _many(self, prompts: list[list[int]], sampling: Sampling) -> AsyncGenerator[list[Delta], None]:
        arrived: asyncio.Queue[list[Delta] | None] = asyncio.Queue()  # bounded by the prompts' max_tokens

        async def pump(number: int, prompt: list[int]) -> None:
            source = self._engine.generate(f"{self.identity}-{number}", prompt, sampling, self._lease.handle)
            async with aclosing(source):
                async for deltas in source:
                    first = number * sampling.n
                    arrived.put_nowait([msgspec.structs.replace(delta, index=first + delta.index) for delta in deltas])

        async def pump_all() -> None:
            try:
                async with asyncio.TaskGroup() as group:
                    for number, prompt in enumerate(prompts):
                        group.create_task(pump(number, prompt))
            finally:
                arrived.put_nowait(None)

        pumping = asyncio.create_task(pump_all())
        try:
            while (deltas := await arrived.get()) is not None:
                yield deltas
            await _first_error(pumping)
        finally:
            pumping.cancel()
            await asyncio.gather(pumping, return_exceptions=True)

    def interrupt(self, reason: Unavailable) -> None:
        """End the request with an error; see ``Lifecycle.drain``."""
        self.interruption = reason
        if self.work is not None:
            self.work.cancel()

    def close(self) -> None:
        """Give back what the request held, and count it."""
        self._services.lifecycle.leave(self)
        self._lease.release()
        self._services.admission.give(self._slots)
        self._meter.settle(self.tally.prompt_tokens, self.tally.completion_tokens)
        seconds = time.monotonic() - self._began
        metrics, model, tally = self._services.metrics, self.model, self.tally
        metrics.requests.labels(model=model, route=self._route, outcome=self.outcome).inc()
        metrics.tokens.labels(model=model, kind="prompt").inc(tally.prompt_tokens)
        metrics.tokens.labels(model=model, kind="cached").inc(tally.cached_tokens)
        metrics.tokens.labels(model=model, kind="completion").inc(tally.completion_tokens)
        if self._lease.by_alias:  # who pins a version tries it out, and is none of its users
            self._services.canaries.note(model, failed=self.failed, finish_reasons=tally.finish_reasons)
        for reason, count in tally.finish_reasons.items():
            metrics.finished.labels(model=model, reason=reason).inc(count)
        metrics.duration.labels(model=model).observe(seconds)
        if self._first_token is not None:
            metrics.first_token.labels(model=model).observe(self._first_token)
        log.info(
            "request",
            route=self._route,
            outcome=self.outcome,
            model=model,
            key=self._key,
            prompt_tokens=tally.prompt_tokens,
            completion_tokens=tally.completion_tokens,
            seconds=round(seconds, 3),
        )


async def _first_error(task: "asyncio.Task[None]") -> None:
    """Await a task group's task; of its errors raise the first alone."""
    try:
        await task
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from None
