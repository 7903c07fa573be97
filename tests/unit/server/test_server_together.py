"""Conversations that come at once: tokenized in one call, each told its own."""

import asyncio
from collections.abc import Sequence

import pytest

from services.server.chat.together import Together
from tests.unit.server.fakes import FakeTokenizer


class Noting(FakeTokenizer):
    """Notes what it is asked for at once.

    Attributes:
        calls: the texts of each call.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[list[str]] = []

    def encode_rendered(self, texts: Sequence[str]) -> list[list[int]]:
        self.calls.append(list(texts))
        if "broken" in texts:
            raise ValueError("no such text")
        return super().encode_rendered(texts)


async def test_what_comes_in_one_round_is_one_call_and_each_gets_its_own() -> None:
    """Who comes later is in the next one."""
    tokenizer = Noting()
    together = Together(tokenizer)
    assert list(await asyncio.gather(together.encode("ab"), together.encode("c"))) == [[97, 98], [99]]
    assert await together.encode("d") == [100]
    assert tokenizer.calls == [["ab", "c"], ["d"]]


async def test_who_has_left_is_not_waited_for() -> None:
    """A client that is gone before its round costs the others nothing."""
    tokenizer = Noting()
    together = Together(tokenizer)
    gone, there = together.encode("gone"), together.encode("there")
    gone.cancel()
    assert await there == [ord(letter) for letter in "there"]
    assert tokenizer.calls == [["there"]]


async def test_a_failure_is_told_to_each_and_is_over_with_the_round() -> None:
    """Nobody waits for ever, and the next text is tokenized."""
    together = Together(Noting())
    first, second = together.encode("broken"), together.encode("whole")
    for future in (first, second):
        with pytest.raises(ValueError, match="no such text"):
            await future
    assert await together.encode("a") == [97]
