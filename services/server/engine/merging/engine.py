"""Two engines as one: one that serves every version as LoRA, and one for most requests, into which a version in service is merged.

A version is in service at once, as LoRA. Behind that the second engine's requests, of the version before, come to their end; its weights are
changed, read with the probe's prompts, and from then on it gets the new version's requests. No request waits for any of it.
"""

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Protocol

import structlog

from services.server.adapters.version import Version
from services.server.engine.protocol import Delta, Engine, EngineAdapter, EngineError, Sampling, Take

log = structlog.get_logger(__name__)


class Mergeable(Engine, Protocol):
    """An engine without adapters, whose weights can be changed."""

    async def merge(self, folder: Path) -> None:
        """Make its weights the base's with the adapter in a version's folder; nothing runs meanwhile.

        Raises:
            EngineError: it could not, and what its weights are is not known.
        """


class MergingEngine:
    """The engine protocol on both.

    Args:
        engine: serves everything, the merged version too until it is merged.
        start_second: starts the other; called once a version is to be merged, in the background.
        adapter: whose version in service is merged.
        tolerance: mean |log-probability| by which the merged version may differ from itself as LoRA on its probe's prompts.
    """

    def __init__(
        self, engine: Engine, start_second: Callable[[], Awaitable[Mergeable]], *, adapter: str, tolerance: float
    ) -> None:
        self._engine = engine
        self._start_second = start_second
        self._second: Mergeable | None = None
        self._adapter = adapter
        self._tolerance = tolerance
        self._wanted: Version | None = None
        self._merged: EngineAdapter | None = None  # whose requests the second engine gets
        self._running = 0  # on the second engine
        self._idle = asyncio.Event()
        self._idle.set()
        self._work: asyncio.Task[None] | None = None
        self.tokenizer = engine.tokenizer
        self.max_model_len = engine.max_model_len
        self.vocabulary = engine.vocabulary
        self.longest_token = engine.longest_token
        self.start_seconds = engine.start_seconds
        self.default_sampling = engine.default_sampling

    def favour(self, name: str, version: Version) -> None:
        """Be told that a version is in service; merge it where it is one of the chosen adapter."""
        if name != self._adapter:
            return
        self._wanted, self._merged = version, None
        if self._work is None or self._work.done():
            self._work = asyncio.create_task(self._merge_wanted())

    async def generate(
        self,
        request_id: str,
        prompt: list[int],
        sampling: Sampling,
        adapter: EngineAdapter | None,
        take: Take | None = None,
    ) -> AsyncGenerator[list[Delta], None]:
        """See ``Engine.generate``."""
        if self._second is not None and adapter is not None and adapter == self._merged:
            source, merged = self._second.generate(request_id, prompt, sampling, None, take), 1
            self._idle.clear()
        else:
            source, merged = self._engine.generate(request_id, prompt, sampling, adapter, take), 0
        self._running += merged
        try:
            async with aclosing(source) as batches:
                async for deltas in batches:
                    yield deltas
        finally:
            self._running -= merged
            if not self._running:
                self._idle.set()

    async def score(self, token_ids: list[int], adapter: EngineAdapter | None) -> list[float]:
        """See ``Engine.score``: always as LoRA, so that versions are judged alike."""
        return await self._engine.score(token_ids, adapter)

    async def load(self, adapter: EngineAdapter) -> None:
        """See ``Engine.load``."""
        await self._engine.load(adapter)

    async def unload(self, adapter: EngineAdapter) -> None:
        """See ``Engine.unload``."""
        await self._engine.unload(adapter)

    def failure(self) -> str | None:
        """See ``Engine.failure``: of either."""
        return self._engine.failure() or (self._second.failure() if self._second is not None else None)

    async def beat(self) -> None:
        """See ``Engine.beat``: of both."""
        await self._engine.beat()
        if self._second is not None:
            await self._second.beat()

    def metrics(self) -> bytes:
        """See ``Engine.metrics``."""
        return self._engine.metrics()

    async def close(self) -> None:
        """See ``Engine.close``."""
        if self._work is not None:
            self._work.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._work
        if self._second is not None:
            await self._second.close()
        await self._engine.close()

    async def _merge_wanted(self) -> None:
        """Until the version in service is the merged one; where that fails it goes on being served as LoRA."""
        while (version := self._wanted) is not None and version.handle != self._merged:
            began = time.monotonic()
            try:
                if self._second is None:
                    self._second = await self._start_second()
                await self._idle.wait()
                await self._second.merge(version.handle.path)
                apart = await self._apart(self._second, version)
            except EngineError as error:
                log.error("adapter version not merged", model=version.handle.name, reason=str(error))  # noqa: TRY400 - no trace
                if self._wanted is version:
                    return
                continue
            if self._wanted is version:
                self._merged = version.handle
                seconds = round(time.monotonic() - began, 2)
                log.info("adapter version merged", model=version.handle.name, apart=round(apart, 5), seconds=seconds)

    async def _apart(self, second: Mergeable, version: Version) -> float:
        """Mean difference, in nats, between the version merged and as LoRA.

        Raises:
            EngineError: it is over the tolerance, or the merged weights are as near to the base's.
        """
        from_lora: list[float] = []
        from_base: list[float] = []
        for prompt in version.manifest.probe:
            merged = await second.score(prompt.token_ids, None)
            for found, adapter in ((from_lora, version.handle), (from_base, None)):
                other = await self._engine.score(prompt.token_ids, adapter)
                found += [abs(one - two) for one, two in zip(merged, other, strict=True)]
        apart, change = (math.fsum(found) / len(found) for found in (from_lora, from_base))
        if not (apart <= self._tolerance and apart < change):
            raise EngineError(
                f"merged, it is {apart:.4f} from itself as LoRA (at most adapters.probe_tolerance, {self._tolerance}) and {change:.4f} from the base"
            )
        return apart
