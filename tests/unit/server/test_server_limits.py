"""Requests and tokens a minute, by key: what is let in, what is told, and what is put right afterwards."""

import asyncio
import contextlib
import json
import math
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import openai
import pytest

from services.server.__main__ import main
from services.server.errors import RequestsLimited, TokensLimited
from services.server.keys import KeyFile, KeyLimits
from services.server.limits.account import Account, Accounts
from services.server.limits.bucket import Bucket
from services.server.openapi.headers import TOKENS
from tests.unit.server.client import Client
from tests.unit.server.clocks import Clock
from tests.unit.server.fakes import BASE, FakeEngine
from tests.unit.server.harness import Server, until
from tests.unit.server.sdk import sdk

HI: Any = [{"role": "user", "content": "hi"}]
CHAT = {"model": BASE, "messages": HI}
PROMPT = len("user:hi\nassistant:")  # the fake tokenizer makes a token of each letter
ANSWER = len(["I", " am", " tiny", " ."])
ROUTES = [
    ("/v1/chat/completions", CHAT),
    ("/v1/completions", {"model": BASE, "prompt": "hi"}),
    ("/v1/responses", {"model": BASE, "input": "hi"}),
]


@pytest.fixture
def clock() -> Clock:
    """The accounts' clock."""
    return Clock()


@pytest.fixture
async def server(tmp_path: Path, engine: FakeEngine, clock: Clock) -> AsyncIterator[Server]:
    """A server whose minutes pass when the test says so."""
    server = Server(tmp_path, engine=engine)
    server.services.accounts = Accounts(clock)
    yield server
    server.model.renderer.close()
    assert server.services.admission.in_flight == 0, "a request did not give back its place"


def limited(server: Server, name: str = "app", **limits: int) -> dict[str, str]:
    """Headers with a key that has these limits."""
    keys = KeyFile(server.plan.paths.keys / "keys.json")
    return {"authorization": f"Bearer {keys.add(name, ['*'], None, limits=KeyLimits(**limits))}"}


def told(answer: Client, what: str) -> tuple[str, ...]:
    """Limit, rest and reset of requests or tokens."""
    return tuple(answer.headers[f"x-ratelimit-{part}-{what}"] for part in ("limit", "remaining", "reset"))


def test_a_bucket_refills_evenly(clock: Clock) -> None:
    """A minute's worth at once, then one after each share of the minute, never more than a minute's worth."""
    bucket = Bucket(60, clock())
    for _ in range(60):
        assert bucket.wait(1, clock()) == 0
        bucket.take(1, clock())
    assert bucket.wait(1, clock()) == pytest.approx(1.0)
    assert bucket.wait(30, clock()) == pytest.approx(30.0)
    clock.pass_(1.0)
    assert bucket.wait(1, clock()) == pytest.approx(0.0)
    clock.pass_(3600.0)
    assert bucket.allowance(clock()).remaining == 60
    assert bucket.wait(61, clock()) == math.inf


def test_over_the_hours_no_more_than_the_limit_is_let_out(clock: Clock) -> None:
    """Whoever always asks again at once gets the limit for each minute, and one minute's worth more at the beginning."""
    bucket = Bucket(20, clock())
    taken = 0
    for _ in range(3600):
        while bucket.wait(1, clock()) == 0:
            bucket.take(1, clock())
            taken += 1
        clock.pass_(1.0)
    assert 20 * 60 <= taken <= 20 * 60 + 20


def test_a_debt_is_paid_before_more_is_let_out(clock: Clock) -> None:
    """Two minutes' worth used too much are two minutes to wait; the rest is told as nothing, not as less."""
    bucket = Bucket(60, clock())
    bucket.take(180, clock())
    assert bucket.allowance(clock()).remaining == 0
    assert bucket.wait(1, clock()) == pytest.approx(121.0)
    clock.pass_(121.0)
    assert bucket.wait(1, clock()) == pytest.approx(0.0)


@pytest.mark.parametrize(("path", "body"), ROUTES)
async def test_requests_over_the_limit_are_429(server: Server, clock: Clock, path: str, body: Any) -> None:
    """With OpenAI's code, type and headers, and a time after which the same request is let in."""
    headers = limited(server, requests_per_minute=2)
    first = await server.ask(path, body, headers=headers)
    assert (first.status, told(first, "requests")) == (200, ("2", "1", "30s"))
    assert (await server.ask(path, {**body, "stream": True}, headers=headers)).status == 200
    refused = await server.ask(path, body, headers=headers)
    assert refused.status == 429
    assert (refused.error["code"], refused.error["type"]) == ("rate_limit_exceeded", "requests")
    assert "Limit 2" in refused.error["message"]
    assert told(refused, "requests") == ("2", "0", "60s")
    assert refused.headers["retry-after"] == "30"
    assert 30_000 <= int(refused.headers["retry-after-ms"]) <= 60_000
    clock.pass_(float(refused.headers["retry-after"]))
    assert (await server.ask(path, body, headers=headers)).status == 200


async def test_a_refused_request_is_neither_read_nor_counted(server: Server, clock: Clock) -> None:
    """It waits for no byte of the body, nothing of it is tokenized, and asking again and again makes no wait longer."""
    headers = limited(server, requests_per_minute=1)
    await server.ask(body=CHAT, headers=headers)
    encoded = server.engine.fake_tokenizer.encoded
    for _ in range(5):
        client = Client(server, "/v1/chat/completions", CHAT, headers=headers, slow=True)
        await asyncio.wait_for(client.task, 1)
        assert (client.status, client.headers["retry-after"]) == (429, "60")
    assert server.engine.fake_tokenizer.encoded == encoded
    clock.pass_(60.0)
    assert (await server.ask(body=CHAT, headers=headers)).status == 200


async def test_a_wrong_request_counts(server: Server) -> None:
    """Else a key could try as often as it likes."""
    headers = limited(server, requests_per_minute=1)
    assert (await server.ask(body={}, headers=headers)).status == 400
    assert (await server.ask(body=CHAT, headers=headers)).status == 429


async def test_each_key_has_its_own(server: Server) -> None:
    """One that is used up takes nothing from another, nor from one without limits, which is told the server's."""
    first = limited(server, "first", requests_per_minute=1, tokens_per_minute=1000)
    second, free = limited(server, "second", requests_per_minute=1), limited(server, "free")
    for headers, status in ((first, 200), (first, 429), (second, 200), (second, 429), (free, 200), (free, 200)):
        answer = await server.ask(body=CHAT, headers=headers)
        assert answer.status == status
        assert (TOKENS[0] in answer.headers) == (headers is first)
    assert told(answer, "requests") == ("8", "8", "0s"), "the place of an answer that is whole is free"


async def test_a_rotated_key_goes_on_where_it_was(server: Server) -> None:
    """Two secrets are no two allowances."""
    keys = KeyFile(server.plan.paths.keys / "keys.json")
    headers = limited(server, requests_per_minute=1)
    assert (await server.ask(body=CHAT, headers=headers)).status == 200
    new = keys.rotate("app", grace=timedelta(hours=1))
    for secret in (headers["authorization"], f"Bearer {new}"):
        assert (await server.ask(body=CHAT, headers={"authorization": secret})).status == 429


async def test_other_limits_count_at_once(server: Server) -> None:
    """What was used of the old ones is used of the new ones; a limit that is gone holds nobody up."""
    headers = limited(server, requests_per_minute=2)
    for status in (200, 200, 429):
        assert (await server.ask(body=CHAT, headers=headers)).status == status
    file = server.plan.paths.keys / "keys.json"
    document = json.loads(file.read_text())
    for limit, statuses in ((3, (200, 429)), (None, (200, 200, 200))):
        document["keys"][0]["limits"] = {"requests_per_minute": limit}
        file.write_text(json.dumps(document))
        for status in statuses:
            assert (await server.ask(body=CHAT, headers=headers)).status == status


async def test_tokens_are_held_and_then_put_right(server: Server) -> None:
    """While it answers, prompt and limit count; afterwards what it was."""
    headers = limited(server, tokens_per_minute=100)
    server.engine.pause_at = 1
    client = Client(server, "/v1/chat/completions", {**CHAT, "max_tokens": 10, "stream": True}, headers=headers)
    await until(lambda: client.status)
    assert told(client, "tokens")[:2] == ("100", str(100 - PROMPT - 10))
    server.engine.pause_at = None
    server.engine.gate.set()
    await client.task
    assert told(await server.ask(body={}, headers=headers), "tokens")[1] == str(100 - PROMPT - ANSWER)


async def test_tokens_over_the_limit_are_429(server: Server, clock: Clock) -> None:
    """Before the engine sees the request, and until there are enough; all of ``n`` answers count, the prompt once."""
    headers = limited(server, tokens_per_minute=60)
    body = {**CHAT, "max_tokens": 10, "n": 2}
    assert (await server.ask(body=body, headers=headers)).status == 200  # 18 + 2 x 4 in the end
    begun = len(server.engine.begun)
    refused = await server.ask(body=body, headers=headers)  # 38 of 34
    assert (refused.status, refused.error["code"], refused.error["type"]) == (429, "rate_limit_exceeded", "tokens")
    assert (refused.headers["retry-after"], told(refused, "tokens")) == ("4", ("60", "34", "26s"))
    assert len(server.engine.begun) == begun
    assert PROMPT == 18
    clock.pass_(4.0)
    assert (await server.ask(body=body, headers=headers)).status == 200


@pytest.mark.parametrize("stream", [True, False])
async def test_a_refusal_for_tokens_is_an_answer_of_its_own(server: Server, *, stream: bool) -> None:
    """Streams too: a status, and no event."""
    headers = limited(server, tokens_per_minute=30)
    for path, body in ROUTES:
        server.services.accounts.of(server.services.doorkeeper.identify(headers["authorization"])).settle(
            0, prompt=25, completion=0, answers=1
        )
        answer = await server.ask(path, {**body, "stream": stream}, headers=headers)
        assert (answer.status, answer.error["type"]) == (429, "tokens"), path


async def test_what_would_never_fit_is_not_tried_again(server: Server) -> None:
    """429 as OpenAI's, with the header by which its SDKs do not ask again; the tokens are left to others."""
    headers = limited(server, tokens_per_minute=40)
    refused = await server.ask(body={**CHAT, "max_tokens": 30}, headers=headers)
    assert (refused.status, refused.error["code"], refused.error["type"]) == (429, "rate_limit_exceeded", "tokens")
    assert "Limit 40, Requested 48" in refused.error["message"]
    assert refused.headers["x-should-retry"] == "false"
    assert "retry-after" not in refused.headers
    assert told(refused, "tokens")[1] == "40"


async def test_an_answer_without_a_limit_is_guessed_and_may_run_up_a_debt(server: Server, clock: Clock) -> None:
    """It is not refused for what it might become; what it was is paid back before the next is let in."""
    headers = limited(server, tokens_per_minute=40)
    server.engine.words = ["x"] * 42
    assert (await server.ask(body=CHAT, headers=headers)).status == 200  # 18 + 42 of 40
    refused = await server.ask(body=CHAT, headers=headers)
    assert (refused.status, refused.error["type"], refused.headers["retry-after"]) == (429, "tokens", "32")
    clock.pass_(32.0)
    assert (await server.ask(body=CHAT, headers=headers)).status == 429  # not before its prompt and a guess are there
    clock.pass_(60.0)
    assert (await server.ask(body=CHAT, headers=headers)).status == 200


def test_guesses_follow_the_keys_answers(clock: Clock) -> None:
    """After short answers many are let in at once, after long ones few."""
    account = Account("app", clock)
    account.limit(KeyLimits(tokens_per_minute=1000))

    def at_once(completion: int) -> int:
        for _ in range(100):
            clock.pass_(60.0)
            account.settle(account.hold(0, answers=1, most=None), prompt=0, completion=completion, answers=1)
        clock.pass_(600.0)
        held: list[float] = []
        with contextlib.suppress(TokensLimited):
            while len(held) < 1000:
                held.append(account.hold(0, answers=1, most=None))
        account.settle(sum(held), prompt=0, completion=0, answers=1)
        return len(held)

    assert at_once(10) > 90
    assert at_once(500) == 2


@pytest.mark.parametrize("ending", ["left", "dead", "refused", "wrong"])
async def test_a_request_that_fails_gives_back_what_it_held(server: Server, ending: str) -> None:
    """What was generated by then counts, and no token more."""
    headers = limited(server, tokens_per_minute=200)
    body: dict[str, Any] = {**CHAT, "max_tokens": 40, "stream": True}
    used = PROMPT
    if ending == "refused":
        server.engine.refuse = "no"
    elif ending == "wrong":
        body["temperature"], used = 9, 0
    else:
        server.engine.pause_at, used = 2, PROMPT + 2
    client = Client(server, "/v1/chat/completions", body, headers=headers)
    if ending in {"left", "dead"}:
        await until(lambda: not server.engine.gate.is_set())
        if ending == "left":
            client.leave()
        else:
            server.engine.dead = "killed"
    await client.task
    key = server.services.doorkeeper.identify(headers["authorization"])
    ask = server.services.accounts.of(key).tokens
    assert ask is not None
    assert ask().remaining == 200 - used


def test_a_refused_request_takes_nothing_from_either_limit(clock: Clock) -> None:
    """Where the tokens are used up, the requests stay; and the other way round."""
    account = Account("app", clock)
    account.limit(KeyLimits(requests_per_minute=10, tokens_per_minute=10))
    account.settle(0, prompt=10, completion=0, answers=1)
    with pytest.raises(TokensLimited):
        account.admit()
    assert account.requests is not None
    assert account.requests().remaining == 10
    clock.pass_(60.0)
    for _ in range(10):
        account.admit()
    with pytest.raises(RequestsLimited):
        account.admit()


def test_no_wait_is_told_that_sdks_do_not_wait() -> None:
    """At most a minute, chance included; OpenAI's older SDKs follow no longer one."""
    headers = [dict(RequestsLimited("app", 1, seconds).headers()) for seconds in (0.01, 50, 900)]
    assert [header[b"retry-after"] for header in headers] == [b"1", b"50", b"60"]
    assert all(int(header[b"retry-after-ms"]) <= 60_000 for header in headers)


async def test_the_official_client_waits_and_gets_its_answer(server: Server) -> None:
    """RateLimitError without retries; with them, the answer after the wait that it was told."""
    server.services.accounts = Accounts()
    secret = limited(server, requests_per_minute=60)["authorization"].removeprefix("Bearer ")
    client = sdk(server, secret)
    create = client.chat.completions.create
    for _ in range(60):
        await create(model=BASE, messages=HI)
    with pytest.raises(openai.RateLimitError) as caught:
        await create(model=BASE, messages=HI)
    assert (caught.value.code, caught.value.type) == ("rate_limit_exceeded", "requests")
    patient = client.with_options(max_retries=2).chat.completions.create
    assert (await patient(model=BASE, messages=HI)).choices


def test_limits_are_given_by_the_operator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And listed; none where nothing is said; one that is no number makes no key."""
    monkeypatch.setenv("WHETSTONE_DATA", str(tmp_path))
    assert main(["key", "add", "free"]) == 0
    assert main(["key", "add", "app", "--rpm", "60", "--tpm", "9000"]) == 0
    limits = {key.name: key.limits for key in KeyFile(tmp_path / "keys" / "keys.json").load()}
    assert limits == {"free": KeyLimits(), "app": KeyLimits(requests_per_minute=60, tokens_per_minute=9000)}
    capsys.readouterr()
    assert main(["key", "list"]) == 0
    free, app = capsys.readouterr().out.splitlines()
    assert "minute" not in free
    assert "\t60 requests a minute\t9000 tokens a minute\t" in app
    for wrong in ("0", "-1", "1.5", "many", str(10**13)):
        with pytest.raises(SystemExit):
            main(["key", "add", "other", f"--rpm={wrong}"])
        assert "whole number" in capsys.readouterr().err
