"""Stored responses, where the operator has switched that on: gone on from, fetched, listed, deleted, by their own key alone."""

import contextlib
import json
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.responses import Response

from services.server.engine.protocol import Delta
from tests.unit.server.client import Client
from tests.unit.server.fakes import BASE, FakeEngine, roomy_engine, two_calls
from tests.unit.server.harness import Server, until
from tests.unit.server.responding import LOGPROBS, WEATHER, prompt_of, respond
from tests.unit.server.sdk import sdk

FIRST = "user:hi\nassistant:I am tiny .\n"
NEXT = {"input": "and then?"}
CODE = "previous_response_not_found"


@pytest.fixture
def engine() -> FakeEngine:
    """See ``roomy_engine``."""
    return roomy_engine()


@pytest.fixture
async def server(tmp_path: Path, engine: FakeEngine) -> AsyncIterator[Server]:
    """A server that stores responses for a day."""
    server = Server(tmp_path, engine=engine, keep_days=1, max_messages=20)
    yield server
    server.model.renderer.close()
    assert server.services.admission.in_flight == 0, "a request did not give back its place"


async def fetch(server: Server, response_id: str, method: str = "GET", **options: Any) -> Client:
    """Ask for a stored response."""
    return await server.ask(f"/v1/responses/{response_id}", method=method, **options)


def told_at_the_end(answer: Client) -> dict[str, Any]:
    """The response object of a stream's last event that has one."""
    frames = [frame for frame in answer.body.decode().split("\n\n") if '"response":' in frame]
    told: dict[str, Any] = json.loads(frames[-1].partition("\ndata: ")[2])["response"]
    return told


def _raw(body: dict[str, Any]) -> bytes:
    """A body of three bytes for each Korean letter."""
    return json.dumps(body, ensure_ascii=False).encode()


async def test_stored_answer_is_found_as_it_was_told(server: Server) -> None:
    """The same object to the last field, and it says that it is stored."""
    answer = await respond(server, metadata={"a": "b"}, tools=[WEATHER])
    found = await fetch(server, answer.json["id"])
    assert (found.status, found.json) == (200, answer.json)
    assert found.headers["content-type"] == "application/json"
    assert answer.json["store"] is True


@pytest.mark.parametrize(("limit", "status"), [(None, "completed"), (2, "incomplete")])
async def test_stored_stream_is_found_as_it_ended(server: Server, limit: int | None, status: str) -> None:
    """Whole, or as much as its limit let be."""
    told = told_at_the_end(await respond(server, stream=True, max_output_tokens=limit))
    found = await fetch(server, told["id"])
    assert (found.json, found.json["status"], found.json["store"]) == (told, status, True)


async def test_broken_stream_is_found_as_failed(server: Server) -> None:
    """With what there was of the answer, and the error's code."""
    server.engine.pause_at = 2
    client = Client(server, "/v1/responses", {"model": BASE, "input": "hi", "stream": True})
    await until(lambda: not server.engine.gate.is_set())
    server.engine.dead = "killed"
    await client.task
    told = told_at_the_end(client)
    found = (await fetch(server, told["id"])).json
    assert found == told
    assert (found["status"], found["error"]["code"]) == ("failed", "server_error")
    assert found["output"][0]["content"][0]["text"] == "I am"


async def test_answer_that_failed_before_it_began_is_not_stored(server: Server) -> None:
    """Nobody was told of a response: what is an HTTP error leaves nothing."""
    server.engine.refuse = "no"
    assert (await respond(server)).status == 400
    assert server.engine.begun == []
    server.engine.refuse = None
    kept = (await respond(server)).json["id"]
    with contextlib.closing(sqlite3.connect(server.plan.paths.stored_responses)) as connection:
        assert connection.execute("SELECT id FROM responses").fetchall() == [(kept,)]


async def test_conversation_goes_on_from_what_is_stored(server: Server) -> None:
    """Input and output of every response before, then the new input; ``instructions`` count for their own request alone."""
    first = await respond(server, instructions="Be brief.")
    second = await respond(server, previous_response_id=first.json["id"], instructions="Be long.", **NEXT)
    assert prompt_of(server) == f"system:Be long.\n{FIRST}user:and then?\nassistant:"
    assert second.json["previous_response_id"] == first.json["id"]
    assert Response.model_validate(second.json, strict=True).previous_response_id == first.json["id"]
    third = await respond(server, previous_response_id=second.json["id"], input=[{"role": "user", "content": "so?"}])
    assert prompt_of(server) == f"{FIRST}user:and then?\nassistant:I am tiny .\nuser:so?\nassistant:"
    assert third.status == 200


async def test_conversation_may_fork_and_stay_unstored(server: Server) -> None:
    """Two requests go on from one response; what is asked with ``store: false`` is answered and not found again."""
    first = (await respond(server)).json["id"]
    for _ in range(2):
        answer = await respond(server, previous_response_id=first, store=False, **NEXT)
        assert prompt_of(server) == f"{FIRST}user:and then?\nassistant:"
        assert answer.json["store"] is False
        assert (await fetch(server, answer.json["id"])).error["code"] == "response_not_found"
    assert (await respond(server, previous_response_id=answer.json["id"])).error["code"] == CODE


@pytest.mark.parametrize("stream", [True, False])
async def test_call_is_answered_by_its_id_alone(server: Server, *, stream: bool) -> None:
    """What was called is in the stored response, so that the outputs alone make the same prompt as all of it."""
    server.engine.script = [Delta(index=0, text="", tokens=1, reasoning="Hm."), *two_calls("weather")]
    answer = await respond(server, tools=[WEATHER], stream=stream)
    response = told_at_the_end(answer) if stream else answer.json
    calls = [item["call_id"] for item in response["output"] if item["type"] == "function_call"]
    server.engine.script = None
    outputs = [{"type": "function_call_output", "call_id": call, "output": f"{call} done"} for call in calls]
    told = await respond(server, previous_response_id=response["id"], input=outputs, tools=[WEATHER])
    assert told.status == 200
    prompt = prompt_of(server)
    assert "call_1 done" in prompt
    whole = [{"role": "user", "content": "hi"}, *response["output"], *outputs]
    assert (await respond(server, input=whole, tools=[WEATHER])).status == 200
    assert prompt_of(server) == prompt
    unknown = [{**outputs[0], "call_id": "call_9"}]
    refused = await respond(server, previous_response_id=response["id"], input=unknown, tools=[WEATHER])
    assert refused.error["param"] == "input[0].call_id"


async def test_response_that_is_not_there_is_named(server: Server) -> None:
    """OpenAI's own status, code and field; before the engine sees anything, streamed or not."""
    for stream in (True, False):
        answer = await respond(server, previous_response_id="resp_nobody", stream=stream)
        assert (answer.status, answer.error["code"], answer.error["param"]) == (400, CODE, "previous_response_id")
        assert "'resp_nobody' not found" in answer.error["message"]
    assert server.engine.begun == []
    for method in ("GET", "DELETE"):
        answer = await fetch(server, "resp_nobody", method)
        assert (answer.status, answer.error["code"]) == (404, "response_not_found")


async def test_deleted_response_is_gone_with_what_goes_on_from_it(server: Server) -> None:
    """Nothing of it is said again: a later response stays, and a conversation from there names the one that lacks."""
    first = (await respond(server)).json["id"]
    second = (await respond(server, previous_response_id=first, **NEXT)).json["id"]
    deleted = await fetch(server, first, "DELETE")
    assert deleted.json == {"id": first, "object": "response", "deleted": True}
    assert (await fetch(server, first)).status == (await fetch(server, first, "DELETE")).status == 404
    assert (await fetch(server, second)).status == 200
    answer = await respond(server, previous_response_id=second)
    assert (answer.status, answer.error["code"]) == (400, CODE)
    assert first in answer.error["message"]
    items = await server.ask(f"/v1/responses/{second}/input_items")
    assert items.status == 404
    assert first in items.error["message"]


async def test_responses_are_their_keys(server: Server) -> None:
    """Another key finds, lists, deletes and goes on from nothing, and is told the same as of what never was."""
    keys = server.services.doorkeeper._keys  # noqa: SLF001 - to make two keys
    mine, other = ({"authorization": f"Bearer {keys.add(name, ['*'], None)}"} for name in ("mine", "other"))
    body = {"model": BASE, "input": "hi"}
    first = (await server.ask("/v1/responses", body, headers=mine)).json["id"]
    for path, method in ((first, "GET"), (first, "DELETE"), (f"{first}/input_items", "GET")):
        assert (await fetch(server, path, method, headers=other)).error["code"] == "response_not_found"
        assert (await fetch(server, path, method)).status == 401
    following = {**body, "previous_response_id": first}
    refused = await server.ask("/v1/responses", following, headers=other)
    assert (
        refused.error["message"].replace(first, "resp_nobody")
        == (await server.ask("/v1/responses", {**body, "previous_response_id": "resp_nobody"}, headers=other)).error[
            "message"
        ]
    )
    assert (await server.ask("/v1/responses", following, headers=mine)).status == 200


async def test_input_items_are_listed_with_cursors(server: Server) -> None:
    """By the official client at its strictest: all that was answered, newest first, each id once, in pages."""
    client = sdk(server)
    kinds: Any = [
        {"role": "developer", "content": "d"},
        {"role": "user", "content": [{"type": "input_text", "text": "u"}], "id": "msg_mine"},
        {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "r"}]},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}], "id": "msg_mine"},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "o"}]},
    ]
    first = await client.responses.create(model=BASE, input=kinds)
    second = await client.responses.create(model=BASE, input="and then?", previous_response_id=first.id)
    listed = [item async for item in client.responses.input_items.list(second.id, limit=3)]
    assert [item.type for item in listed[::-1]] == [
        *["message", "message", "reasoning", "message", "function_call", "function_call_output"],
        *["message", "message"],
    ]
    assert len({item.id for item in listed}) == 8
    assert "msg_mine" in {item.id for item in listed}
    assert first.output[0].id == listed[1].id
    oldest = await client.responses.input_items.list(second.id, order="asc")
    assert [item.id for item in oldest.data] == [item.id for item in listed[::-1]]
    assert [item.type for item in (await client.responses.input_items.list(first.id)).data][-1] == "message"


@pytest.mark.parametrize(
    ("query", "param"), [("limit=0", "limit"), ("limit=101", "limit"), ("order=up", "order"), ("after=msg_x", "after")]
)
async def test_wrong_page_is_refused_by_name(server: Server, query: str, param: str) -> None:
    """400 with the query's field."""
    first = (await respond(server)).json["id"]
    answer = await server.ask(f"/v1/responses/{first}/input_items?{query}")
    assert (answer.status, answer.error["param"]) == (400, param)


async def test_what_a_stored_response_cannot_give_is_refused_by_name(server: Server) -> None:
    """It is not streamed again, and its log-probabilities were told once and are not stored."""
    answer = await respond(server, include=[LOGPROBS], top_logprobs=1)
    assert len(answer.json["output"][0]["content"][0]["logprobs"]) == 4
    found = await fetch(server, answer.json["id"])
    assert found.json["output"][0]["content"][0]["logprobs"] == []
    assert (await fetch(server, f"{answer.json['id']}?stream=false")).json == found.json
    for query, param in (
        ("stream=true", "stream"),
        (f"include[]={LOGPROBS}", "include"),
        (f"include={LOGPROBS}", "include"),
    ):
        refused = await fetch(server, f"{answer.json['id']}?{query}")
        assert (refused.status, refused.error["param"]) == (400, param)


async def test_conversation_is_as_long_as_a_request_may_be(server: Server) -> None:
    """Beyond the limit of a body it is refused by name, and whoever lists it is told the same."""
    body = {"model": BASE, "input": "한" * 1600}
    first = (await server.ask("/v1/responses", _raw(body))).json["id"]
    last = (await server.ask("/v1/responses", _raw({**body, "previous_response_id": first}))).json["id"]
    for refused in (
        await respond(server, previous_response_id=last),
        await server.ask(f"/v1/responses/{last}/input_items"),
    ):
        assert (refused.status, refused.error["param"]) == (400, "previous_response_id")
        assert "over 10000 bytes" in refused.error["message"]
    assert (await respond(server, previous_response_id=first)).status == 200


async def test_sdk_goes_on_and_forgets(server: Server) -> None:
    """``previous_response_id``, ``retrieve`` and ``delete`` of the official client."""
    client = sdk(server)
    first = await client.responses.create(model=BASE, input="hi")
    second = await client.responses.create(model=BASE, input="and then?", previous_response_id=first.id)
    assert await client.responses.retrieve(second.id) == second
    await client.responses.delete(second.id)
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(second.id)
    with pytest.raises(openai.BadRequestError) as caught:
        await client.responses.create(model=BASE, input="and?", previous_response_id=second.id)
    assert (caught.value.code, caught.value.param) == (CODE, "previous_response_id")
