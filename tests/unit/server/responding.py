"""Asking the Responses API in tests."""

from typing import Any

from tests.unit.server.client import Client
from tests.unit.server.fakes import BASE
from tests.unit.server.harness import Server

LOGPROBS = "message.output_text.logprobs"
WEATHER = {
    "type": "function",
    "name": "weather",
    "description": "of a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": True,
}
CLOCK = {"type": "function", "name": "clock", "parameters": None, "strict": None}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}


async def respond(server: Server, **fields: Any) -> Client:
    """A request for the base model with a short input, changed by ``fields``."""
    return await server.ask("/v1/responses", {"model": BASE, "input": "hi", **fields})


def prompt_of(server: Server) -> str:
    """What the engine generated from last."""
    return "".join(map(chr, server.engine.prompts[-1]))
