"""An engine that answers with its adapter's name, and its tokenizer: hand-written stand-ins for vLLM."""

import asyncio
import re
import threading
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from jinja2 import TemplateError

from services.server.engine.protocol import (
    Delta,
    EngineAdapter,
    EngineBusy,
    EngineDead,
    EngineError,
    Position,
    RequestRefused,
    Sampling,
    Take,
    Tokenizer,
    TokenLogprob,
    ToolCallDelta,
)

BASE = "tiny"
CONTEXT = 400
ROOM = 4000


class FakeTokenizer:
    """One token per character; a template of ``role:content`` lines."""

    special_tokens = re.compile(r"<\|end\|>")
    chat_template = "{% for message in messages %}{{ message.role }}:{{ message.content }}\n{% endfor %}assistant:"

    def __init__(self) -> None:
        self.encoded = 0
        self.options: dict[str, Any] = {}
        self.gate = threading.Event()
        self.gate.set()

    def __deepcopy__(self, _: Any) -> "FakeTokenizer":
        return self  # it counts what its copies do

    def render(self, conversation: list[dict[str, Any]], **options: Any) -> str:
        self.options = options
        if any(message["content"] == "refuse me" for message in conversation):
            raise TemplateError("roles must alternate")
        return "".join(f"{message['role']}:{message['content']}\n" for message in conversation) + "assistant:"

    def encode_rendered(self, texts: Sequence[str]) -> list[list[int]]:
        return [self.encode(text) for text in texts]

    def encode(self, text: str) -> list[int]:
        self.encoded += 1
        assert self.gate.wait(5)
        return [ord(character) % 1000 for character in text]

    def decode(self, token_ids: Sequence[int], **options: Any) -> str:
        del options
        return "".join(map(chr, token_ids))


def untaken(deltas: list[Delta], take: Take | None) -> list[Delta]:
    """What is left for an engine to yield, once ``take`` was offered the deltas."""
    while deltas and take is not None and deltas[0].finish_reason is None and take(deltas[0]):
        deltas = deltas[1:]
    return deltas


class FakeEngine:
    """Answers ``I am <name> .`` one word at a time, or whatever ``words`` says.

    Attributes:
        gate: cleared, generation stops before its next word.
        pause_at: the word before which generation clears the gate itself.
        broken: name of an adapter -> what loading it raises.
        inert: names of adapters that change nothing.
        failing: names of adapters on which every request fails.
        refuse: what every request is refused with; ``refuse_param`` is the field it is about.
        busy: whether it says of every request that it cannot tell yet.
        endless: names of adapters whose answers run into their limit.
        script: deltas to yield in place of words, each a batch of its own.
        prompts: every prompt generated from.
        turning: cleared, the engine hangs: it says nothing, whatever it is asked.
    """

    def __init__(self) -> None:
        self.fake_tokenizer = FakeTokenizer()
        self.tokenizer: Tokenizer = self.fake_tokenizer
        self.max_model_len = CONTEXT
        self.vocabulary = 1000
        self.longest_token = 2
        self.start_seconds: dict[str, float] = {}
        self.default_sampling: dict[str, float] = {}
        self.gate = asyncio.Event()
        self.gate.set()
        self.pause_at: int | None = None
        self.words: list[str] | None = None
        self.script: list[Delta] | None = None
        self.dead: str | None = None
        self.refuse: str | None = None
        self.busy = False
        self.refuse_param: str | None = None
        self.broken: dict[str, str] = {}
        self.inert: set[str] = set()
        self.failing: set[str] = set()
        self.endless: set[str] = set()
        self.off = 0.0
        self.loaded: dict[int, EngineAdapter] = {}
        self.unloaded: list[str] = []
        self.prompts: list[list[int]] = []
        self.samplings: list[Sampling] = []
        self.begun: list[str] = []
        self.aborted: list[str] = []
        self.closed = False
        self.turning = asyncio.Event()
        self.turning.set()

    async def generate(
        self,
        request_id: str,
        prompt: list[int],
        sampling: Sampling,
        adapter: EngineAdapter | None,
        take: Take | None = None,
    ) -> AsyncGenerator[list[Delta], None]:
        if self.busy:
            raise EngineBusy("send it again")
        if self.refuse is not None:
            raise RequestRefused(self.refuse, param=self.refuse_param)
        assert adapter is None or self.loaded[adapter.engine_id] == adapter, (
            "generation on a version that is not loaded"
        )
        if adapter is not None and adapter.name in self.failing:
            raise EngineError("the engine failed on this request")
        self.prompts.append(prompt)
        self.samplings.append(sampling)
        self.begun.append(request_id)
        async with aclosing(self._batches(request_id, prompt, sampling, adapter)) as batches:
            async for deltas in batches:
                if left := untaken(deltas, take):
                    yield left
                else:
                    await asyncio.sleep(0)

    async def _batches(
        self, request_id: str, prompt: list[int], sampling: Sampling, adapter: EngineAdapter | None
    ) -> AsyncGenerator[list[Delta], None]:
        if self.script is not None:
            for delta in self.script:
                yield [delta]
            return
        words = self.words or ["I", " am", f" {adapter.name if adapter else BASE}", " ."]
        finished = False
        try:
            for place, word in enumerate(words):
                if place == self.pause_at:
                    self.gate.clear()
                while not self.gate.is_set():
                    self.die()
                    await asyncio.sleep(0.005)
                self.die()
                assert adapter is None or adapter.engine_id in self.loaded, "the version was unloaded under a request"
                last = place == len(words) - 1 or place == sampling.max_tokens - 1
                ended = place == len(words) - 1 and (adapter is None or adapter.name not in self.endless)
                reason = ("stop" if ended else "length") if last else None
                yield [
                    self._delta(index, word, reason, sampling, prompt if place == 0 else [])
                    for index in range(sampling.n)
                ]
                if last:
                    break
            finished = True
        finally:
            if not finished:
                self.aborted.append(request_id)

    def _delta(self, index: int, word: str, reason: str | None, sampling: Sampling, prompt: list[int]) -> Delta:
        position = Position(chosen=TokenLogprob(word, -0.5), top=[TokenLogprob(word, -0.5), TokenLogprob("?", -1.5)])
        echo = [
            Position(chosen=TokenLogprob(chr(token), -1.0 if place else None), top=[])
            for place, token in enumerate(prompt)
        ]
        return Delta(
            index=index,
            text=word,
            tokens=1,
            finish_reason=reason,
            positions=[position] if sampling.logprobs is not None else None,
            cached_tokens=3,
            prompt_positions=echo if prompt and sampling.prompt_logprobs is not None else None,
        )

    def die(self) -> None:
        """Raise where the engine is dead."""
        if self.dead is not None:
            raise EngineDead(self.dead)

    async def score(self, token_ids: list[int], adapter: EngineAdapter | None) -> list[float]:
        self.die()
        if adapter is None or adapter.name in self.inert:
            return [-1.0] * (len(token_ids) - 1)
        return [-0.5 + self.off] * (len(token_ids) - 1)

    async def load(self, adapter: EngineAdapter) -> None:
        await asyncio.sleep(0)
        if adapter.name in self.broken:
            raise EngineError(self.broken[adapter.name])
        assert adapter.engine_id not in self.loaded
        self.loaded[adapter.engine_id] = adapter

    async def unload(self, adapter: EngineAdapter) -> None:
        del self.loaded[adapter.engine_id]
        self.unloaded.append(adapter.name)

    def forget(self) -> None:
        """Drop all that was written down of requests."""
        for record in (self.prompts, self.samplings, self.begun, self.aborted):
            record.clear()

    def failure(self) -> str | None:
        return self.dead

    async def beat(self) -> None:
        await self.turning.wait()

    def metrics(self) -> bytes:
        return b"vllm:num_requests_running 0.0\n"

    async def close(self) -> None:
        self.closed = True


def roomy_engine() -> FakeEngine:
    """One whose context has room for what the model is told of functions."""
    engine = FakeEngine()
    engine.max_model_len = ROOM
    return engine


def two_calls(second: str) -> list[Delta]:
    """An answer that calls ``weather`` in pieces and then, at once, the function called ``second``."""
    begun = ToolCallDelta(index=0, id="call_1", name="weather")
    ended = ToolCallDelta(index=0, arguments='"Seoul"}')
    other = ToolCallDelta(index=1, id="call_2", name=second, arguments="{}")
    return [
        Delta(index=0, text="", tokens=1, tool_calls=(begun,)),
        Delta(index=0, text="", tokens=1, tool_calls=(ToolCallDelta(index=0, arguments='{"city":'),)),
        Delta(index=0, text="", tokens=2, tool_calls=(ended, other)),
        Delta(index=0, text="", tokens=1, finish_reason="tool_calls", reasoning_tokens=2),
    ]
