"""What keys have used: counted by model and day, written off the request path, and the day's quota that it decides."""

import asyncio
import csv
import io
import json
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine

from services.jobs.errors import DatabaseUnusable
from services.registry.pointer import promote
from services.server.__main__ import main
from services.server.keys import KeyFile, KeyLimits
from services.server.usage.book import Book, Entry, Used
from services.server.usage.ledger import Ledger
from services.server.usage.tables import metadata
from tests.unit.server.clocks import Clock
from tests.unit.server.fakes import BASE, FakeEngine
from tests.unit.server.harness import Server, publish_version, until
from tests.unit.server.sdk import sdk

CANARY = "the merger is on Tuesday"
CHAT: Any = {"model": BASE, "messages": [{"role": "user", "content": "hi"}]}
PROMPT = len("user:hi\nassistant:")  # the fake tokenizer makes a token of each letter
ANSWER = len(["I", " am", " tiny", " ."])
NOON = 20_000 * 86_400 + 43_200.0
DAY, NEXT_DAY = "2024-10-04", "2024-10-05"


@pytest.fixture
def clock() -> Clock:
    """The ledger's clock, at noon UTC."""
    clock = Clock()
    clock.now = NOON
    return clock


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where the book lies."""
    return tmp_path / "usage" / "usage.sqlite"


@pytest.fixture
async def server(tmp_path: Path, engine: FakeEngine, clock: Clock, file: Path) -> AsyncIterator[Server]:
    """A server whose days pass when the test says so."""
    server = Server(tmp_path, engine=engine)
    server.services.usage = Ledger(Book(file), clock)
    yield server
    server.model.renderer.close()
    assert server.services.admission.in_flight == 0, "a request did not give back its place"


def key(server: Server, name: str = "app", **limits: int) -> str:
    """The secret of a key that has these limits."""
    keys = KeyFile(server.plan.paths.keys / "keys.json")
    return keys.add(name, ["*"], None, limits=KeyLimits(**limits))


def bearer(secret: str) -> dict[str, str]:
    """As headers."""
    return {"authorization": f"Bearer {secret}"}


def written(file: Path) -> list[tuple[str, str, str, int, int, int]]:
    """All rows of the book."""
    return [
        (entry.day, entry.key, entry.model, used.requests, used.prompt_tokens, used.completion_tokens)
        for entry, used in Book(file).read("0001-01-01", "9999-12-31")
    ]


@pytest.mark.parametrize(
    ("path", "body", "prompt"),
    [
        ("/v1/chat/completions", CHAT, PROMPT),
        ("/v1/completions", {"model": BASE, "prompt": "hi"}, 2),
        ("/v1/responses", {"model": BASE, "input": "hi"}, PROMPT),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_each_answer_is_counted_by_key_model_and_day(
    server: Server, clock: Clock, file: Path, path: str, body: Any, prompt: int
) -> None:
    """Requests, and tokens as the answers tell them; a key's second secret is the same key."""
    headers = bearer(key(server))
    for stream in (False, True):
        assert (await server.ask(path, {**body, "stream": stream}, headers=headers)).status == 200
    clock.pass_(43_200)
    await server.ask(path, body, headers=headers)
    await server.ask(path, body, headers=bearer(key(server, "other")))
    await server.services.usage.write()
    assert written(file) == [
        (DAY, "app", BASE, 2, 2 * prompt, 2 * ANSWER),
        (NEXT_DAY, "app", BASE, 1, prompt, ANSWER),
        (NEXT_DAY, "other", BASE, 1, prompt, ANSWER),
    ]


async def test_the_version_that_answered_is_counted_not_its_alias(server: Server, file: Path) -> None:
    publish_version(server.registry)
    promote(server.registry, "acme", 1)
    await server.reconcile()
    assert (await server.chat(model="acme")).status == 200
    await server.services.usage.write()
    assert [row[1:3] for row in written(file)] == [("keyless", "acme@1")]


async def test_what_never_came_to_the_engine_is_no_usage(server: Server, file: Path) -> None:
    """A wrong request, an unknown model, embeddings, which no model here makes."""
    headers = bearer(key(server))
    assert (await server.ask(body={**CHAT, "temperature": 9}, headers=headers)).status == 400
    assert (await server.ask(body={**CHAT, "model": "none"}, headers=headers)).status == 404
    assert (await server.ask("/v1/embeddings", {"model": BASE, "input": "hi"}, headers=headers)).status == 400
    await server.services.usage.write()
    assert written(file) == []


async def test_a_used_quota_is_429_until_midnight(server: Server, clock: Clock) -> None:
    """The request that goes over is answered; the next is refused before it is read, costs nothing, and ends no other key's day."""
    headers = bearer(key(server, tokens_per_day=PROMPT + ANSWER + 1))
    assert [(await server.ask(body=CHAT, headers=headers)).status for _ in range(3)] == [200, 200, 429]
    clock.pass_(3600)
    refused = await server.ask(body=CHAT, headers=headers)
    assert (refused.error["code"], refused.error["type"]) == ("insufficient_quota", "insufficient_quota")
    assert (refused.headers["retry-after"], refused.headers["x-should-retry"]) == ("39600", "false")
    assert (await server.ask(body=CHAT, headers=bearer(key(server, "other")))).status == 200
    clock.pass_(39_600)
    assert (await server.ask(body=CHAT, headers=headers)).status == 200


async def test_a_quota_outlives_the_server(server: Server, clock: Clock, file: Path) -> None:
    """What is written counts after a restart, on the same day."""
    headers = bearer(key(server, tokens_per_day=PROMPT + ANSWER))
    assert (await server.ask(body=CHAT, headers=headers)).status == 200
    await server.services.usage.write()
    server.services.usage = Ledger(Book(file), clock)
    assert (await server.ask(body=CHAT, headers=headers)).status == 429
    clock.pass_(86_400)
    server.services.usage = Ledger(Book(file), clock)
    assert (await server.ask(body=CHAT, headers=headers)).status == 200


async def test_the_official_client_does_not_insist(server: Server) -> None:
    """Its retries would come within seconds, and the day is not over then."""
    client = sdk(server, key(server, tokens_per_day=1)).with_options(max_retries=3)
    await client.chat.completions.create(**CHAT)
    began = time.monotonic()
    with pytest.raises(openai.RateLimitError) as caught:
        await client.chat.completions.create(**CHAT)
    assert caught.value.code == "insufficient_quota"
    assert time.monotonic() - began < 0.4


async def test_writing_is_off_the_loop_and_in_batches(
    clock: Clock, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that hangs stops no answer; however many there were, they are one write."""
    ledger, hang, batches = Ledger(Book(file), clock), threading.Event(), []
    add = Book.add

    def slow(book: Book, sums: Any) -> None:
        hang.wait(5)
        batches.append(len(sums))
        add(book, sums)

    monkeypatch.setattr(Book, "add", slow)
    writing = asyncio.create_task(ledger.keep_written(every_seconds=0.01))
    for _ in range(100):
        ledger.add("app", "acme@1", 1, 1)
    await asyncio.sleep(0.05)
    ledger.add("app", "acme@1", 1, 1)  # while the first write hangs
    hang.set()
    await until(lambda: len(batches) == 2)
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    assert batches == [1, 1]
    assert written(file) == [(DAY, "app", "acme@1", 101, 101, 101)]


async def test_what_cannot_be_written_is_written_later(
    clock: Clock, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once, with what came meanwhile; the end of the server in the middle of a write neither loses nor doubles it."""
    ledger, add = Ledger(Book(file), clock), Book.add

    def fail(*_: object) -> None:
        raise DatabaseUnusable("the disk is full")

    def slow(book: Book, sums: Any) -> None:
        time.sleep(0.1)
        add(book, sums)

    ledger.add("app", "acme@1", 1, 2)
    monkeypatch.setattr(Book, "add", fail)
    await ledger.write()
    ledger.add("app", "acme@1", 1, 2)
    monkeypatch.setattr(Book, "add", slow)
    writing = asyncio.create_task(ledger.write())
    await asyncio.sleep(0.05)
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    await ledger.write()
    assert written(file) == [(DAY, "app", "acme@1", 2, 2, 4)]


async def test_no_content_is_in_the_database(server: Server, file: Path) -> None:
    await server.chat(messages=[{"role": "user", "content": CANARY}], user=CANARY)
    await server.services.usage.write()
    assert all(CANARY.encode() not in path.read_bytes() for path in file.parent.iterdir())


def test_migrations_make_the_table(file: Path) -> None:
    """What the migrations leave is what the code expects, to the last column and index."""
    Book(file)
    engine = create_engine(f"sqlite:///{file}")
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()


def test_the_operator_reads_days(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As CSV or JSON, the first and the last day included; before anything was counted there is nothing."""
    monkeypatch.setenv("WHETSTONE_DATA", str(tmp_path))
    assert main(["usage"]) == 0
    header = "day,key,model,requests,prompt_tokens,completion_tokens\n"
    assert capsys.readouterr().out == header
    assert not file.exists()
    for day in (DAY, NEXT_DAY):
        Book(file).add({Entry(day, "our, app", "acme@1"): Used(1, 2, 3)})
    assert main(["usage", "--to", DAY]) == 0
    assert list(csv.reader(io.StringIO(capsys.readouterr().out)))[1:] == [[DAY, "our, app", "acme@1", "1", "2", "3"]]
    assert main(["usage", "--from", NEXT_DAY, "--json"]) == 0
    [row] = json.loads(capsys.readouterr().out)
    assert (row["day"], row["completion_tokens"]) == (NEXT_DAY, 3)
    with pytest.raises(SystemExit, match="2"):
        main(["usage", "--from", "yesterday"])


def test_a_quota_is_given_by_the_operator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WHETSTONE_DATA", str(tmp_path))
    assert main(["key", "add", "app", "--tokens-per-day", "5000"]) == 0
    capsys.readouterr()
    assert main(["key", "list"]) == 0
    assert "5000 tokens a day" in capsys.readouterr().out
