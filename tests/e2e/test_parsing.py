"""vLLM's parsers behind the engine: what binds an answer, and how its text is told apart, however it is cut into deltas."""

import json
import warnings
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.server.chat.message import SpokenMessage
from services.server.engine.protocol import Delta, EngineError, RequestRefused, Shape

pytestmark = pytest.mark.e2e

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
THOUGHT = "<think>\nSeoul is asked about.\n</think>\n\n"
SAID = "I look it up. 서울 "
CALLED = '<tool_call>\n{"name": "weather", "arguments": {"city": "서울 ☂"}}\n</tool_call>'


@pytest.fixture(scope="module")
def tokenizer(base_model_dir: Path) -> Any:
    """The real base's, which thinks aloud in this test."""
    from transformers import AutoTokenizer  # noqa: PLC0415 - takes seconds to import

    tokenizer = AutoTokenizer.from_pretrained(str(base_model_dir))
    tokenizer.add_tokens(["<think>", "</think>"])
    return tokenizer


@pytest.fixture(scope="module")
def parsers(tokenizer: Any) -> Any:
    """Hermes' calls after Qwen3's thoughts."""
    return _parsers(tokenizer, reasoning="qwen3")


def _parsers(tokenizer: Any, *, tool: str = "hermes", reasoning: str = "") -> Any:
    with warnings.catch_warnings(action="ignore"):  # vLLM's own, at its import
        from services.server.engine.parsing import Parsers  # noqa: PLC0415 - takes seconds to import

    return Parsers(tokenizer, None, tool_parser=tool, reasoning_parser=reasoning)


def _deltas(tokenizer: Any, text: str, cuts: list[int]) -> Iterator[Delta]:
    """The text as an engine would hand it out, a few tokens at a time; never half a character."""
    tokens = tokenizer.encode(text, add_special_tokens=False)
    edges = sorted({0, len(tokens), *(cut % len(tokens) for cut in cuts)})
    told = 0
    for begin, end in pairwise(edges):
        whole = tokenizer.decode(tokens[:end])
        if end < len(tokens):
            whole = whole.rstrip("\ufffd")
        piece, told = whole[told:], len(whole)
        reason = "stop" if end == len(tokens) else None
        ids = tokens[begin:end]
        yield Delta(index=0, text=piece, tokens=len(ids), token_ids=ids, finish_reason=reason)


def _read(form: Any, tokenizer: Any, text: str, cuts: list[int]) -> dict[str, Any]:
    message, last = SpokenMessage(), None
    for delta in _deltas(tokenizer, text, cuts):
        last = form.read(delta)
        message.add(last)
    assert last is not None
    calls = [(call.name, json.loads(call.arguments)) for call in message.calls]
    return {
        "text": message.text,
        "reasoning": message.reasoning.strip(),
        "calls": calls,
        "reason": last.finish_reason,
        "reasoning_tokens": last.reasoning_tokens,
    }


@given(cuts=st.lists(st.integers(0, 200), max_size=60))
@settings(max_examples=60, deadline=None)
def test_thoughts_words_and_calls_are_told_apart_at_every_cut(parsers: Any, tokenizer: Any, cuts: list[int]) -> None:
    """The same reasoning, content and call, whatever the engine's deltas were; Korean and emoji too."""
    form = parsers.form(Shape(tools=[WEATHER], tool_choice="auto"), [1])
    read = _read(form, tokenizer, THOUGHT + SAID + CALLED, cuts)
    assert read["calls"] == [("weather", {"city": "서울 ☂"})]
    assert read["reasoning"] == "Seoul is asked about."
    assert read["text"].strip() == SAID.strip()
    assert read["reason"] == "tool_calls"
    assert read["reasoning_tokens"] > 0


def test_answer_without_a_thought_or_a_call_is_its_text(tokenizer: Any) -> None:
    """A base that does not think aloud and is offered no functions is not parsed at all; one that may call can talk."""
    parsers = _parsers(tokenizer)
    assert parsers.form(Shape(), [1]) is None
    assert parsers.form(None, [1]) is None
    form = parsers.form(Shape(tools=[WEATHER]), [1])
    read = _read(form, tokenizer, "It is dry in 서울.", [1, 3, 4])
    assert (read["text"], read["calls"], read["reason"]) == ("It is dry in 서울.", [], "stop")


@pytest.mark.parametrize(
    ("choice", "reason"), [("auto", "tool_calls"), ("required", "tool_calls"), ("weather", "stop")]
)
def test_named_call_ends_as_openais_do(tokenizer: Any, choice: str, reason: str) -> None:
    """OpenAI ends an answer that was made to call one function with "stop", any other that calls with "tool_calls"."""
    form = _parsers(tokenizer).form(Shape(tools=[WEATHER], tool_choice=choice), [1])
    read = _read(form, tokenizer, CALLED, [])
    assert (read["calls"], read["reason"]) == ([("weather", {"city": "서울 ☂"})], reason)


def test_calls_are_bound_to_the_schema_with_an_end_to_blanks(tokenizer: Any) -> None:
    """Every schema within the constraint says how many blanks may follow each other; the schema itself is untouched."""
    form = _parsers(tokenizer).form(Shape(tools=[WEATHER], tool_choice="required"), [1])
    assert form.constraint is not None
    written = form.constraint.structural_tag
    assert '"max_whitespace_cnt": 1' in written
    assert json.dumps(WEATHER["function"]["parameters"]) in written  # type: ignore[index]


def test_strict_function_that_cannot_be_enforced_is_refused(tokenizer: Any) -> None:
    """Named, with the remedy; without ``strict`` it is followed as far as can be, as OpenAI's server does."""
    odd = {"type": "object", "properties": {"n": {"type": "integer", "multipleOf": 3}}}
    parsers = _parsers(tokenizer)
    with pytest.raises(RequestRefused, match=r"'count'.*Remove them, or 'strict'"):
        parsers.form(
            Shape(tools=[{"type": "function", "function": {"name": "count", "parameters": odd, "strict": True}}]), [1]
        )
    assert parsers.form(Shape(tools=[{"type": "function", "function": {"name": "count", "parameters": odd}}]), [1])


@pytest.mark.parametrize("names", [{"tool": "herpes"}, {"reasoning": "qwen33"}], ids=["tool", "reasoning"])
def test_parser_that_vllm_does_not_know_is_refused_at_the_start(tokenizer: Any, names: dict[str, str]) -> None:
    """With the setting and the names that there are."""
    with pytest.raises(EngineError, match=r"engine\.\w+_parser = .* is none of vLLM's parsers: .*(hermes|qwen3)"):
        _parsers(tokenizer, **names)


def test_parser_that_does_not_suit_the_base_is_refused_at_the_start(base_model_dir: Path) -> None:
    """A base without the marks that its reasoning parser looks for."""
    from transformers import AutoTokenizer  # noqa: PLC0415 - takes seconds to import

    with pytest.raises(EngineError, match="does not suit the base model"):
        _parsers(AutoTokenizer.from_pretrained(str(base_model_dir)), reasoning="deepseek_r1")
