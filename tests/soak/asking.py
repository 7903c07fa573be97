"""Apps that ask at a steady pace: base and adapter, plain and streamed, through the official client."""

import random
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any, Self

import openai

from tests.e2e.asking import BASE
from tests.e2e.serving import ServerProcess

PAUSE_SECONDS = 1.0
JOIN_SECONDS = 150.0
WORDS = [
    "the",
    "sea",
    "was",
    "calm",
    "and",
    "boats",
    "came",
    "home",
    "early",
    "that",
    "morning",
    "with",
    "silver",
    "fish",
    "for",
    "market",
]


Ask = Callable[[openai.OpenAI, Any], str]


class Apps:
    """Four of them, one for each kind of request, each with a client of its own; each waits for its answer, then pauses.

    Args:
        server: whom they ask.
        adapter: its name; until ``adapter_serves`` all ask the base.

    Attributes:
        answers: whole ones, by kind.
        named: by the model that they name.
        failures: what went wrong, without a word of what was asked.
        adapter_serves: set as soon as the adapter has a version.
    """

    def __init__(self, server: ServerProcess, adapter: str) -> None:
        self.answers: Counter[str] = Counter()
        self.named: Counter[str] = Counter()
        self.failures: list[str] = []
        self.adapter_serves = threading.Event()
        self._server, self._adapter = server, adapter
        self._lock = threading.Lock()
        self._over = threading.Event()
        kinds: list[tuple[str, Ask]] = [("plain", _plain), ("streamed", _stream)]
        self._threads = [
            threading.Thread(target=self._run, args=(f"{kind}, {whom}", whom, ask, number), daemon=True)
            for number, (kind, ask, whom) in enumerate((k, a, w) for k, a in kinds for w in ("base", "adapter"))
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(JOIN_SECONDS)

    def _run(self, kind: str, whom: str, ask: Ask, seed: int) -> None:
        pick = random.Random(seed)  # noqa: S311 - repeatable
        with self._lock:
            self.answers[kind] = 0
        with openai.OpenAI(base_url=f"{self._server.url}/v1", api_key="none", max_retries=0, timeout=120) as client:
            while not self._over.wait(PAUSE_SECONDS):
                adapted = whom == "adapter" and self.adapter_serves.is_set()
                said = " ".join(pick.choices(WORDS, k=pick.randint(5, 60)))
                options: Any = {
                    "model": self._adapter if adapted else BASE,
                    "messages": [{"role": "user", "content": said}],
                    "max_tokens": pick.randint(4, 16),
                    "seed": pick.randint(0, 1 << 30),
                }
                try:
                    named = ask(client, options)
                    assert named.startswith(f"{self._adapter}@") if adapted else named == BASE, f"{named} answered"
                except (openai.OpenAIError, AssertionError) as error:
                    with self._lock:
                        self.failures.append(f"{kind}: {type(error).__name__}: {error}")
                else:
                    with self._lock:
                        self.answers[kind] += 1
                        self.named[named] += 1


def _plain(client: openai.OpenAI, options: Any) -> str:
    answer = client.chat.completions.create(**options)
    assert answer.choices[0].finish_reason in {"stop", "length"}, "an answer that did not end"
    return str(answer.model)


def _stream(client: openai.OpenAI, options: Any) -> str:
    chunks = list(client.chat.completions.create(stream=True, **options))
    ends = [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason]
    assert ends in (["stop"], ["length"]), "a stream that did not end, or twice"
    (named,) = {str(chunk.model) for chunk in chunks}
    return named
