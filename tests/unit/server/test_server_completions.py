"""Text completions: the four forms of a prompt, echo, log-probabilities, streaming."""

from typing import Any

import pytest

from tests.unit.server.client import Client
from tests.unit.server.fakes import BASE, CONTEXT
from tests.unit.server.harness import Server


async def _complete(server: Server, **fields: Any) -> Client:
    return await server.ask("/v1/completions", {"model": BASE, **fields})


@pytest.mark.parametrize("prompt", ["abc", ["abc"], [97, 98, 99], [[97, 98, 99]]])
async def test_each_form_of_a_prompt_is_the_same_prompt(server: Server, prompt: Any) -> None:
    """Text, list of texts, token ids, lists of token ids."""
    document = (await _complete(server, prompt=prompt)).json
    assert server.engine.prompts == [[97, 98, 99]]
    assert document["object"] == "text_completion"
    assert document["choices"] == [{"index": 0, "text": "I am tiny .", "logprobs": None, "finish_reason": "stop"}]
    assert document["usage"]["prompt_tokens"] == 3


async def test_prompts_and_answers_are_numbered_in_order(server: Server) -> None:
    """Answers to prompt ``i`` are choices ``i * n`` and on; usage counts all."""
    document = (await _complete(server, prompt=["a", "bb"], n=2, echo=True)).json
    assert [choice["text"][:2] for choice in document["choices"]] == ["aI", "aI", "bb", "bb"]
    assert [choice["index"] for choice in document["choices"]] == [0, 1, 2, 3]
    assert document["usage"]["prompt_tokens"] == 3
    assert document["usage"]["completion_tokens"] == 16


async def test_streamed_prompts_arrive_with_their_numbers(server: Server) -> None:
    """Events of several prompts interleave; each names its choice; the last is ``[DONE]``."""
    events = (await _complete(server, prompt=["a", "b"], stream=True, stream_options={"include_usage": True})).events
    assert events[-1] == "[DONE]"
    assert events[-2]["usage"]["completion_tokens"] == 8
    for index in (0, 1):
        mine = [event["choices"][0] for event in events[:-2] if event["choices"][0]["index"] == index]
        assert "".join(choice["text"] for choice in mine) == "I am tiny ."
        assert [choice["finish_reason"] for choice in mine][-1] == "stop"


@pytest.mark.parametrize("stream", [True, False])
async def test_echo_with_logprobs_covers_the_prompt(server: Server, *, stream: bool) -> None:
    """The prompt's tokens come first; its first has no log-probability; offsets run through."""
    answer = await _complete(server, prompt="ab", echo=True, logprobs=1, max_tokens=1, stream=stream)
    choice = answer.events[0]["choices"][0] if stream else answer.json["choices"][0]
    assert choice["text"] == "abI"
    assert choice["logprobs"] == {
        "tokens": ["a", "b", "I"],
        "token_logprobs": [None, -1.0, -0.5],
        "top_logprobs": [None, {"b": -1.0}, {"I": -0.5}],
        "text_offset": [0, 1, 2],
    }


async def test_streamed_echo_begins_with_the_prompt(server: Server) -> None:
    """Without log-probabilities the prompt's text is an event of its own."""
    events = (await _complete(server, prompt="ab", echo=True, stream=True)).events
    assert "".join(event["choices"][0]["text"] for event in events[:-1]) == "abI am tiny ."


async def test_default_length_is_openais(server: Server) -> None:
    """Sixteen tokens where the request is silent, fewer where the context ends."""
    await _complete(server, prompt="ab")
    await _complete(server, prompt="x" * (CONTEXT - 2))
    assert [sampling.max_tokens for sampling in server.engine.samplings] == [16, 2]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": []}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": [[]]}, "prompt"),
        ({"prompt": ["a", 1]}, "prompt"),
        ({"prompt": [1.5]}, "prompt"),
        ({"prompt": [True]}, "prompt"),
        ({"prompt": [-1]}, "prompt"),
        ({"prompt": [1000]}, "prompt"),
        ({"prompt": [2**65]}, "prompt"),
        ({"prompt": ["a"] * 4}, "prompt"),
        ({"prompt": "x" * CONTEXT}, "prompt"),
        ({"prompt": "a", "logprobs": 6}, "logprobs"),
        ({"prompt": "a", "best_of": 2}, "best_of"),
        ({"prompt": "a", "suffix": "b"}, "suffix"),
        ({"prompt": None}, "prompt"),
        ({}, "prompt"),
    ],
)
async def test_bad_completion_is_refused_by_name(server: Server, fields: dict[str, Any], param: str) -> None:
    """400 with the field's name, before the engine sees anything."""
    answer = await _complete(server, **fields)
    assert answer.status == 400
    assert answer.error["param"] == param
    assert server.engine.begun == []
