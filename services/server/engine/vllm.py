"""vLLM in this process (its core runs in a process of its own).

Besides, only ``pushed.py``, ``parsing.py``, ``arguments.py``, ``card`` and ``processor`` import vLLM.
"""

import asyncio
import itertools
import multiprocessing
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any, Self

import msgspec
from prometheus_client import generate_latest
from vllm import SamplingParams
from vllm.lora.request import LoRARequest
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.exceptions import EngineDeadError
from vllm.v1.metrics.prometheus import get_prometheus_registry

from services.common.parts import Parts
from services.server.engine.arguments import lora_arguments, merged_arguments
from services.server.engine.parsing import Form, Parsers
from services.server.engine.processes import kill_engine
from services.server.engine.protocol import (
    Delta,
    EngineAdapter,
    EngineDead,
    EngineError,
    Position,
    Sampling,
    Take,
    Tokenizer,
)
from services.server.engine.pushed import PushingLLM
from services.server.engine.tokenizer import FastTokenizer
from services.server.engine.translated import Translated, worker_reason
from services.server.engine.trials import Trials
from services.server.settings import EngineSettings, Limits

ENGINE_EXIT_SECONDS = 10.0
_ABANDON_SECONDS = 0.2
_GAVE_UP = frozenset({"abort", "error"})  # finish reasons that are none of a client's
_TOO_LARGE = "it keeps the grammar's compiler busy for too long; have less in it that may be left out, be repeated or be of any length"


class VllmEngine:
    """The engine protocol on ``PushingLLM``."""

    def __init__(self, llm: Any, parsers: Parsers, tokenizer: Tokenizer, trials: Trials) -> None:
        self._llm = llm
        self.start_seconds: dict[str, float] = {}
        self._trials = trials
        self.tokenizer = tokenizer
        self._parsers = parsers
        self._scores = itertools.count(1)
        self.max_model_len: int = llm.model_config.max_model_len
        self.vocabulary: int = llm.model_config.get_vocab_size()
        self.longest_token: int = max(map(len, llm.get_tokenizer().get_vocab()))
        self.default_sampling: dict[str, float] = llm.model_config.get_diff_sampling_param()

    @classmethod
    async def start(
        cls, model: Path, served_name: str, settings: EngineSettings, *, limits: Limits, parts: Parts
    ) -> Self:
        """Start the engine on the model's folder; takes tens of seconds, off the event loop.

        ``prepare_environment`` comes before the import of this module; ``parts`` has taken the time since.

        Raises:
            EngineError: vLLM could not start; the message is vLLM's.
        """
        parts.begin("tokenizer")
        tokenizer = await asyncio.to_thread(FastTokenizer, model)
        parts.begin("grammar trials")
        trials = Trials(model, cpu_seconds=limits.max_schema_cpu_seconds, seconds=limits.schema_seconds)
        await trials.start()  # where the engine does not, this process ends, and it too
        parts.begin("engine process")
        llm = await _begun(lora_arguments(model, served_name, settings, limits))
        try:
            with Translated():
                (of_worker,) = await llm.collective_rpc("start_seconds")
            parts.divide(of_worker)
            parts.begin("parsers")
            parsers = Parsers(
                llm.get_tokenizer(),
                llm.model_config,
                tool_parser=settings.tool_parser,
                reasoning_parser=settings.reasoning_parser,
            )
        except EngineError:
            await asyncio.to_thread(llm.shutdown, ENGINE_EXIT_SECONDS)
            raise
        engine = cls(llm, parsers, tokenizer, trials)
        engine.start_seconds = parts.end()
        return engine

    async def start_second(
        self, model: Path, served_name: str, settings: EngineSettings, *, limits: Limits
    ) -> "MergedEngine":
        """Start an engine beside this one, without adapters, for ``merge``; takes as long.

        Raises:
            EngineError: as ``start``.
        """
        llm = await _begun(merged_arguments(model, served_name, settings, limits))
        return MergedEngine(llm, self._parsers, self.tokenizer, self._trials, model)

    async def generate(
        self,
        request_id: str,
        prompt: list[int],
        sampling: Sampling,
        adapter: EngineAdapter | None,
        take: Take | None = None,
    ) -> AsyncGenerator[list[Delta], None]:
        """See ``Engine.generate``."""
        # vLLM refuses n > 1 at temperature 0, where all answers are the same one: it is generated once and told n times.
        copies = sampling.n if sampling.temperature == 0 else 1
        form = self._parsers.form(sampling.shape, prompt)
        if form is not None and form.grammar is not None and not await self._trials.fits(*form.grammar):
            raise form.refusal(ValueError(_TOO_LARGE))
        with Translated(form):
            parameters = _parameters(sampling, form, n=1 if copies > 1 else sampling.n)
            options = form.engine_options if form is not None else {}
            if form is not None or copies > 1:
                take = None  # what the engine says is not yet what is told
            inbox = await self._llm.begin(request_id, prompt, parameters, _lora(adapter), take=take, **options)
            try:
                while not inbox.ended:
                    deltas: list[Delta] = await inbox.read()
                    for delta in deltas:
                        if delta.finish_reason in _GAVE_UP:
                            raise EngineError("the engine gave up on this request")
                    if form is not None:
                        deltas = [form.read(delta) for delta in deltas]
                    if copies > 1:
                        deltas = [
                            msgspec.structs.replace(delta, index=index) for index in range(copies) for delta in deltas
                        ]
                    yield deltas
            finally:
                if not inbox.ended:
                    await self._llm.abort(inbox.request_id, internal=True)

    async def score(self, token_ids: list[int], adapter: EngineAdapter | None) -> list[float]:
        """See ``Engine.score``."""
        sampling = Sampling(max_tokens=1, temperature=0.0, prompt_logprobs=0, ignore_eos=True)
        positions: list[Position] = []
        async with aclosing(self.generate(f"score-{next(self._scores)}", token_ids, sampling, adapter)) as batches:
            async for deltas in batches:
                for delta in deltas:
                    positions = delta.prompt_positions or positions
        logprobs = [position.chosen.logprob for position in positions[1:]]
        if len(positions) != len(token_ids) or None in logprobs:
            raise EngineError(f"the engine scored {len(positions)} of {len(token_ids)} tokens")
        return logprobs  # type: ignore[return-value]  # none is None

    async def load(self, adapter: EngineAdapter) -> None:
        """See ``Engine.load``."""
        try:
            loaded = await self._llm.add_lora(_lora(adapter))
        except EngineDeadError as error:
            raise EngineDead("the engine died") from error
        except Exception as error:
            raise EngineError(f"the engine refused it: {worker_reason(error)}") from error
        if not loaded:
            raise EngineError("the engine did not load it and gave no reason")

    async def unload(self, adapter: EngineAdapter) -> None:
        """See ``Engine.unload``."""
        with Translated():
            await self._llm.remove_lora(adapter.engine_id)

    def failure(self) -> str | None:
        """See ``Engine.failure``."""
        return "the engine process is gone" if self._llm.errored else None

    async def beat(self) -> None:
        """See ``Engine.beat``."""
        with Translated():
            await self._llm.is_sleeping()  # the cheapest of vLLM's calls that its core itself answers

    def metrics(self) -> bytes:
        """See ``Engine.metrics``."""
        text: bytes = generate_latest(get_prometheus_registry())
        return text

    async def close(self) -> None:
        """See ``Engine.close``."""
        await self._trials.close()
        await asyncio.to_thread(self._llm.shutdown, ENGINE_EXIT_SECONDS)


class MergedEngine(VllmEngine):
    """An engine without adapters, whose weights can be changed.

    Args:
        model: the base model's folder.
    """

    def __init__(self, llm: Any, parsers: Parsers, tokenizer: Tokenizer, trials: Trials, model: Path) -> None:
        super().__init__(llm, parsers, tokenizer, trials)
        self._model = model

    async def merge(self, folder: Path) -> None:
        """See ``Mergeable.merge``."""
        try:
            await self._llm.collective_rpc("merge_adapter", args=(str(self._model), str(folder)))
            await self._llm.reset_prefix_cache()
        except EngineDeadError as error:
            raise EngineDead("the engine died") from error
        except Exception as error:
            raise EngineError(f"its weights could not be changed: {worker_reason(error)}") from error


async def _begun(arguments: Any) -> Any:
    """Start vLLM in a thread.

    Raises:
        EngineError: it could not start; the message is vLLM's.
    """
    starting = asyncio.create_task(asyncio.to_thread(PushingLLM.begin_with, arguments))
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        await _abandon(starting)
        raise
    except Exception as error:
        raise EngineError(f"vLLM did not start: {error}") from error


async def _abandon(starting: "asyncio.Task[Any]") -> None:
    """End an engine that is still starting: vLLM's own waiting, in a thread, ends when its processes do. Who does not listen is killed."""
    patience = time.monotonic() + ENGINE_EXIT_SECONDS
    while not starting.done():
        if time.monotonic() < patience:
            for child in multiprocessing.active_children():
                child.terminate()
        else:
            kill_engine()
        await asyncio.wait((starting,), timeout=_ABANDON_SECONDS)
    if starting.exception() is None:
        await asyncio.to_thread(starting.result().shutdown, ENGINE_EXIT_SECONDS)


def _lora(adapter: EngineAdapter | None) -> Any:
    if adapter is None:
        return None
    return LoRARequest(lora_name=adapter.name, lora_int_id=adapter.engine_id, lora_path=str(adapter.path))


def _parameters(sampling: Sampling, form: Form | None, *, n: int) -> Any:
    return SamplingParams(
        n=n,
        max_tokens=sampling.max_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        min_p=sampling.min_p,
        presence_penalty=sampling.presence_penalty,
        frequency_penalty=sampling.frequency_penalty,
        repetition_penalty=sampling.repetition_penalty,
        seed=sampling.seed,
        stop=list(sampling.stop),
        logprobs=sampling.logprobs,
        prompt_logprobs=sampling.prompt_logprobs,
        logit_bias=sampling.logit_bias,
        ignore_eos=sampling.ignore_eos,
        structured_outputs=form.constraint if form is not None else None,
        skip_special_tokens=form.skip_special_tokens if form is not None else True,
        output_kind=RequestOutputKind.DELTA,
        skip_clone=True,
    )
