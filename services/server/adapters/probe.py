"""Whether a version in the engine is the one that was trained, and does anything at all.

The trainer recorded log-probabilities of fixed prompts, with and without the adapter. The engine reads the same prompts:
far from the record means damaged or misread weights; equal to the base means that the adapter's module names match
nothing in the engine, which vLLM loads without a word.
"""

import math

import msgspec

from services.registry.manifest import Manifest
from services.server.engine.protocol import Engine, EngineAdapter


class ProbeRefused(Exception):
    """The version is not what was trained; the message is for the operator."""


class ProbeResult(msgspec.Struct, frozen=True):
    """Mean absolute differences of log-probability over every token of every prompt, in nats.

    Attributes:
        error: engine's adapter against the trainer's.
        change: engine's adapter against the engine's base.
        base_error: engine's base against the trainer's; tells a bad adapter from a base that computes differently.
    """

    error: float
    change: float
    base_error: float


class Prober:
    """Probes versions; remembers the base's own readings.

    Args:
        engine: with the base model in it.
        tolerance: the largest ``error`` that passes.
        min_change: the smallest ``change`` that passes.
    """

    def __init__(self, engine: Engine, *, tolerance: float, min_change: float) -> None:
        self._engine = engine
        self._tolerance = tolerance
        self._min_change = min_change
        self._base: dict[tuple[int, ...], list[float]] = {}

    async def probe(self, manifest: Manifest, handle: EngineAdapter) -> ProbeResult:
        """Read every probe prompt with the version.

        Raises:
            ProbeRefused: a difference is out of bounds, or there is nothing to compare with.
            EngineError: the engine could not read a prompt.
        """
        errors: list[float] = []
        changes: list[float] = []
        base_errors: list[float] = []
        for prompt in manifest.probe:
            if not len(prompt.token_ids) - 1 == len(prompt.base_logprobs) == len(prompt.adapter_logprobs) > 0:
                raise ProbeRefused("a probe prompt of its manifest has not one log-probability per predicted token")
            base = await self._read_base(prompt.token_ids)
            adapted = await self._engine.score(prompt.token_ids, handle)
            errors += _differences(adapted, prompt.adapter_logprobs)
            changes += _differences(adapted, base)
            base_errors += _differences(base, prompt.base_logprobs)
        if not errors:
            raise ProbeRefused("its manifest holds no probe prompt, so nothing shows that the engine applies it")
        result = ProbeResult(error=_mean(errors), change=_mean(changes), base_error=_mean(base_errors))
        if not result.change >= self._min_change:
            raise ProbeRefused(
                f"it answers as the base model does (mean change {result.change:.5f}, at least {self._min_change} expected): "
                "its module names match nothing in the engine, or training changed nothing"
            )
        if not result.error <= self._tolerance:
            raise ProbeRefused(
                f"its log-probabilities are {result.error:.4f} away from the trainer's (at most {self._tolerance}; "
                f"the base model itself is {result.base_error:.4f} away): retrain, or raise adapters.probe_tolerance if the base is as far"
            )
        if result.error >= result.change:  # within a wide tolerance (bf16) a gentle adapter and its base look alike
            raise ProbeRefused(
                f"it is nearer to the base model ({result.change:.5f}) than to what was trained ({result.error:.5f}): "
                "the engine applies little or nothing of it"
            )
        return result

    async def _read_base(self, token_ids: list[int]) -> list[float]:
        key = tuple(token_ids)
        if key not in self._base:
            self._base[key] = await self._engine.score(token_ids, None)
        return self._base[key]


def _differences(left: list[float], right: list[float]) -> list[float]:
    return [abs(one - other) for one, other in zip(left, right, strict=True)]


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values)
