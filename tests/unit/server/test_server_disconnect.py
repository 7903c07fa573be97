"""Clients that go away: the engine's work is aborted at once, and nothing stays held."""

import asyncio

import pytest

from tests.unit.server.client import Client
from tests.unit.server.fakes import BASE
from tests.unit.server.harness import Server, publish_version, until

BODY = {"model": BASE, "messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize("stream", [True, False])
async def test_client_that_leaves_aborts_the_engine(server: Server, *, stream: bool) -> None:
    """Streaming or not, hanging up ends the generation and frees its slot."""
    server.engine.gate.clear()
    client = Client(server, "/v1/chat/completions", {**BODY, "stream": stream})
    await until(lambda: server.engine.begun)
    client.leave()
    await until(lambda: server.engine.aborted == server.engine.begun, seconds=1)
    await asyncio.wait_for(client.task, 1)
    assert server.services.admission.in_flight == 0
    text = server.services.metrics.text().decode()
    assert 'outcome="client_gone"' in text


async def test_all_prompts_of_a_request_are_aborted(server: Server) -> None:
    """A completions request with several prompts leaves none of them running."""
    server.engine.gate.clear()
    client = Client(server, "/v1/completions", {"model": BASE, "prompt": ["a", "b", "c"], "stream": True})
    await until(lambda: len(server.engine.begun) == 3)
    client.leave()
    await until(lambda: sorted(server.engine.aborted) == sorted(server.engine.begun), seconds=1)
    await client.task


async def test_leaving_mid_stream_gives_the_version_back(server: Server) -> None:
    """The version's lease ends with its client."""
    publish_version(server.registry)
    await server.reconcile()
    server.engine.words, server.engine.pause_at = ["word "] * 3, 2
    client = Client(server, "/v1/chat/completions", {**BODY, "model": "acme@1", "stream": True})
    await until(lambda: b"word" in client.body)
    version = server.services.catalogue.entries["acme"].loaded[1]
    assert version.leases == 1
    client.leave()
    await client.task
    assert version.leases == 0
    assert not client.ended


async def test_error_in_the_middle_is_an_event_and_no_done(server: Server) -> None:
    """A stream that breaks ends in an error event: without it the SDK takes the end for a success."""
    server.engine.words, server.engine.pause_at = ["word "] * 3, 2
    client = Client(server, "/v1/chat/completions", {**BODY, "stream": True})
    await until(lambda: b"word" in client.body)
    server.engine.dead = "killed"
    await client.task
    assert client.ended
    assert client.events[-1]["error"]["code"] == "engine_dead"
    assert "[DONE]" not in client.events


async def test_dead_engine_before_the_first_token_is_503(server: Server) -> None:
    """Without a byte sent, the client gets a status it retries on."""
    server.engine.dead = "killed"
    for stream in (True, False):
        answer = await server.chat(stream=stream)
        assert answer.status == 503
        assert int(answer.headers["retry-after"]) > 0


async def test_one_prompts_error_ends_the_others(server: Server) -> None:
    """The engine's error of one of several prompts reaches the client as itself."""
    server.engine.dead = "killed"
    answer = await server.ask("/v1/completions", {"model": BASE, "prompt": ["a", "b"]})
    assert answer.status == 503
    assert answer.error["code"] == "engine_dead"
