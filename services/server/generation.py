"""One request's run through the engine: what it holds, what it yields, and what is counted when it ends."""

import asyncio
import time
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing

import msgspec
import structlog

from services.server.adapters.catalogue import Lease
from services.server.chat.usage import Tally
from services.server.engine.protocol import Delta, Engine, EngineError, Sampling, Take
from services.server.errors import AnswerTooSlow, ServerError
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
        interruption: why the request is to end, where the server ends it.
        take: told of deltas in the engine's step, where the answer may go on at once; see ``Engine.generate``.
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
        self._work: asyncio.Task[None] | None = None
        self._holds = True
        self.interruption: ServerError | None = None
        self.take: Take | None = None
        services.lifecycle.enter(self)
        services.patience_for_answers.begin(self._overdue)

    @property
    def whole(self) -> bool:
        """Whether every answer has ended."""
        return self.tally.ended == self._slots

    async def deltas(self, prompts: list[list[int]], sampling: Sampling) -> AsyncGenerator[list[Delta], None]:
        """Deltas of all answers; prompt ``i``'s answers are numbered from ``i * n``. Closing it aborts the engine's work."""
        prompt_tokens = sum(map(len, prompts))
        self._meter.hold(prompt_tokens, len(prompts) * sampling.n)
        self.tally.prompt_tokens = prompt_tokens
        source = self._one(prompts[0], sampling) if len(prompts) == 1 else self._many(prompts, sampling)
        async with aclosing(source):
            async for deltas in source:
                self._count(deltas)
                yield deltas
        if not self.whole:
            raise EngineError("the engine stopped in the middle of an answer")

    def _one(self, prompt: list[int], sampling: Sampling) -> AsyncGenerator[list[Delta], None]:
        return self._engine.generate(self.identity, prompt, sampling, self._lease.handle, self._taken)

    def _taken(self, delta: Delta) -> bool:
        if self.take is None or not self.take(delta):
            return False
        self._count((delta,))
        return True

    def _count(self, deltas: Iterable[Delta]) -> None:
        if self._first_token is None:
            self._first_token = time.monotonic() - self._began
        self.tally.add(deltas)

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

    def retry_seconds(self) -> int:
        """After how long it would be answered, were the engine gone."""
        return self._services.lifecycle.retry_seconds()

    def runs_in(self, work: "asyncio.Task[None]") -> None:
        """Say which task answers.

        Raises:
            ServerError: the server ended the request before.
        """
        if self.interruption is not None:
            raise self.interruption
        self._work = work

    def interrupt(self, reason: ServerError) -> None:
        """End the request with an error: its time is over, or the server's; see ``Lifecycle.drain``."""
        self.interruption = reason
        if self._work is not None:
            self._work.cancel()

    def _overdue(self) -> None:
        seconds = self._services.limits.answer_seconds
        self.interrupt(AnswerTooSlow(f"The answer was not whole after {seconds:g} seconds (limits.answer_seconds)."))

    def give_back(self) -> None:
        """Give back the version and the places, and what was held of the key's tokens, once."""
        if self._holds:
            self._holds = False
            self._services.patience_for_answers.end(self._overdue)
            self._lease.release()
            self._services.admission.give(self._slots)
            tally = self.tally
            self._meter.settle(tally.prompt_tokens, tally.completion_tokens)
            if tally.prompt_tokens:  # else it never came to the engine
                self._services.usage.add(self._key, self.model, tally.prompt_tokens, tally.completion_tokens)

    def close(self) -> None:
        """Give back what the request still holds, and count it."""
        self.take = None
        self._services.lifecycle.leave(self)
        self.give_back()
        seconds = time.monotonic() - self._began
        model, tally = self.model, self.tally
        self._services.metrics.versions.of(model).count(
            tally, route=self._route, outcome=self.outcome, seconds=seconds, first_token=self._first_token
        )
        if (alias := self._lease.alias) is not None:  # who pins a version tries it out, and is none of its users
            self._services.canaries.note(alias, model, failed=self.failed, finish_reasons=tally.finish_reasons)
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
