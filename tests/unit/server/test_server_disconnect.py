"""Clients that go away: the engine's work is aborted at once, and nothing stays held."""

import asyncio
from typing import Any

import pytest

from services.server.engine.protocol import EngineDead
from tests.unit.server.client import Client
from tests.unit.server.fakes import BASE
from tests.unit.server.harness import Server, publish_version, until

BODY = {"model": BASE, "messages": [{"role": "user", "content": "hi"}]}


class Parting(Client):
    """One whose leaving the application learns from a future, as Granian's is; it hangs up with its last byte at the latest."""

    def _receive(self) -> Any:
        message: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        if not self._sent:
            self._sent = True
            message.set_result({"type": "http.request", "body": self._raw, "more_body": True})
        elif not self._told:
            self._told = True
            message.set_result({"type": "http.request", "body": b"", "more_body": False})
        else:
            self._message = message  # cancelled where the application listens no more
        return message

    _told = False  # of the body's end, which Granian tells apart

    async def _send(self, message: dict[str, Any]) -> None:
        await super()._send(message)
        if self.ended:
            self.hang_up()

    def hang_up(self) -> None:
        """Now, in this round of the event loop."""
        if not self._message.done():
            self._message.set_result({"type": "http.disconnect"})


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


async def test_client_that_leaves_with_its_last_byte_has_its_answer(server: Server) -> None:
    """There is nothing left to cancel: the answer counts as one that was read."""
    server.engine.words, server.engine.pause_at = ["word "] * 3, 2
    client = Parting(server, "/v1/chat/completions", {**BODY, "stream": True})
    await until(lambda: b"word" in client.body)
    server.engine.gate.set()
    await client.task
    assert client.body.endswith(b"data: [DONE]\n\n")
    text = server.services.metrics.text().decode()
    assert 'outcome="ok"' in text
    assert 'outcome="client_gone"' not in text


async def test_client_that_leaves_as_the_engine_dies_is_told_of_that(server: Server) -> None:
    """In the same round of the event loop: the error came first, and telling it is not cut short."""
    server.engine.words, server.engine.pause_at = ["word "] * 3, 2
    client = Parting(server, "/v1/chat/completions", {**BODY, "stream": True})
    await until(lambda: b"word" in client.body)

    def die() -> None:
        client.hang_up()
        raise EngineDead("killed")

    server.engine.die = die  # type: ignore[method-assign]
    await client.task
    assert b"engine_dead" in client.body
    assert 'outcome="engine_dead"' in server.services.metrics.text().decode()


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
