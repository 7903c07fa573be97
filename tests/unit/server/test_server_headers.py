"""What every answer says about itself, and what generating routes say about the limit."""

import asyncio

from services.server.errors import Overloaded
from services.server.keys import KeyFile
from tests.unit.server.client import Client
from tests.unit.server.fakes import BASE
from tests.unit.server.harness import Server, until

CHAT = {"model": BASE, "messages": [{"role": "user", "content": "hi"}]}


async def test_every_answer_says_how_long_it_took(server: Server) -> None:
    """``openai-processing-ms`` is on answers, errors and unknown routes."""
    for path, body in (
        ("/v1/chat/completions", CHAT),
        ("/v1/completions", {}),
        ("/v1/models", None),
        ("/nothing", None),
    ):
        answer = await server.ask(path, body)
        assert 0 <= int(answer.headers["openai-processing-ms"]) < 3000


async def test_processing_time_of_a_stream_ends_at_its_first_byte(server: Server) -> None:
    """The wait for the first token counts, the rest of the stream does not."""
    server.engine.gate.clear()
    client = Client(server, "/v1/chat/completions", {**CHAT, "stream": True})
    await until(lambda: server.engine.begun)
    server.engine.pause_at = 1
    await asyncio.sleep(0.1)
    server.engine.gate.set()
    await until(lambda: client.status)
    assert 100 <= int(client.headers["openai-processing-ms"]) < 3000
    assert not client.ended
    server.engine.pause_at = None
    server.engine.gate.set()
    await client.task


async def test_generating_routes_tell_what_is_left(server: Server) -> None:
    """The limit is answers at once; what runs or waits is taken from it, the asking request included."""
    idle = await server.ask(body={})
    assert _limit(idle) == ("8", "8", "0s")
    server.engine.gate.clear()
    waiting = [Client(server, "/v1/chat/completions", {**CHAT, "n": 4}) for _ in range(2)]
    await until(lambda: server.services.admission.in_flight == 8)
    assert _limit(await server.ask(body=CHAT)) == ("8", "0", "1s")
    server.engine.gate.set()
    await asyncio.gather(*(client.task for client in waiting))
    assert _limit(await server.chat(stream=True)) == ("8", "7", "1s")


async def test_the_limit_is_told_to_nobody_else(server: Server) -> None:
    """Neither routes that generate nothing nor callers without a key learn how busy the server is."""
    assert not _named(await server.ask("/v1/models"))
    assert not _named(await server.ask("/nothing"))
    KeyFile(server.plan.paths.keys / "keys.json").add("app", ["*"], None)
    refused = await server.ask(body=CHAT)
    assert refused.status == 401
    assert not _named(refused)


def test_retries_are_spread_and_never_given_up() -> None:
    """Milliseconds differ between the refused, and no wait is longer than the SDKs are willing to wait."""
    waits = [dict(Overloaded("busy", retry_after=2).headers()) for _ in range(20)]
    assert {wait[b"retry-after"] for wait in waits} == {b"2"}
    milliseconds = [int(wait[b"retry-after-ms"]) for wait in waits]
    assert all(2000 <= wait <= 3000 for wait in milliseconds)
    assert len(set(milliseconds)) > 1
    assert Overloaded("busy", retry_after=900).headers() == [(b"retry-after", b"120"), (b"retry-after-ms", b"120000")]
    assert Overloaded("busy").headers() == []


def _limit(answer: Client) -> tuple[str, ...]:
    return tuple(answer.headers[f"x-ratelimit-{what}-requests"] for what in ("limit", "remaining", "reset"))


def _named(answer: Client) -> list[str]:
    return [name for name in answer.headers if name.startswith("x-ratelimit")]
