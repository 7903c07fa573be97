"""Tokens that complete no character, or may begin a stop string: a frame of their own, as vLLM's server gives them."""

from typing import Any

import pytest

from services.server.engine.protocol import Delta
from tests.unit.server.fakes import BASE
from tests.unit.server.harness import Server

# A character of two tokens; then a token's text is read before it is told, and is silent.
HELD = [
    Delta(index=0, text="", tokens=1, token_ids=[240]),
    Delta(index=0, text="\N{CAT FACE}", tokens=1, token_ids=[145]),
    Delta(index=0, text="", tokens=1),
    Delta(index=0, text="", tokens=1, token_ids=[2], finish_reason="stop"),
]
ASKED: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}]}),
    "completions": ("/v1/completions", {"prompt": "hi"}),
}


@pytest.mark.parametrize("route", ASKED)
async def test_a_held_token_has_an_empty_frame(server: Server, route: str) -> None:
    """So that an app which watches a stream sees each token when it comes; the end has one frame, and silence has none."""
    server.engine.script = HELD
    path, body = ASKED[route]
    events = (await server.ask(path, {"model": BASE, "stream": True, **body})).events
    choices = [event["choices"][0] for event in events[:-1]]
    said = [choice.get("text", choice.get("delta", {}).get("content")) for choice in choices]
    begin, end = (list[Any]([""]), list[Any]([None])) if route == "chat" else ([], [""])
    assert said == [*begin, "", "\N{CAT FACE}", *end]
    assert [choice["finish_reason"] for choice in choices[-2:]] == [None, "stop"]
