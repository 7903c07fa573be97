"""The Responses API, streamed: its events, and what the official SDK makes of them."""

import json
from collections import Counter
from pathlib import Path
from typing import Any, cast

import openai
import pydantic
import pytest
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

from services.server.engine.protocol import Delta
from tests.unit.server.client import Client
from tests.unit.server.fakes import BASE, ROOM, FakeEngine, roomy_engine, two_calls
from tests.unit.server.harness import Server, until
from tests.unit.server.process import Process
from tests.unit.server.responding import LOGPROBS, SCHEMA, WEATHER, respond

EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
EVERYTHING = [
    Delta(index=0, text="", tokens=1, reasoning="Which "),
    Delta(index=0, text="", tokens=1, reasoning="city?"),
    Delta(index=0, text="\n\n", tokens=1),
    Delta(index=0, text='Let "me" ', tokens=1),
    Delta(index=0, text="안녕\n\u2028", tokens=1),
    *two_calls("weather"),
]


@pytest.fixture
def engine() -> FakeEngine:
    """See ``roomy_engine``."""
    return roomy_engine()


def events_of(answer: Client) -> list[dict[str, Any]]:
    """The events; each is strictly what the SDK's types say, is named by its ``event:`` line, and has the next number."""
    assert answer.headers["content-type"].startswith("text/event-stream")
    frames = answer.body.decode().split("\n\n")
    assert frames.pop() == ""
    events = []
    for number, frame in enumerate(frames):
        name, data = frame.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        assert event["sequence_number"] == number
        EVENT.validate_python(event, strict=True)
        events.append(event)
    return events


def without_times(response: dict[str, Any]) -> dict[str, Any]:
    """A response without what differs from one answer to the next."""
    text = json.dumps({name: value for name, value in response.items() if not name.endswith("_at")})
    document: dict[str, Any] = json.loads(text.replace(response["id"].removeprefix("resp_"), "X"))
    return document


async def test_text_arrives_in_openais_order_of_events(server: Server) -> None:
    """Created, in progress, item, part, pieces, and each of them done; the last event is the whole answer."""
    events = events_of(await respond(server, stream=True))
    assert [event["type"].removeprefix("response.") for event in events] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        *["output_text.delta"] * 4,
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert "".join(event["delta"] for event in events if "delta" in event) == "I am tiny ."
    assert events[0]["response"]["status"] == "in_progress"
    assert events[-1]["response"]["output"] == [events[-2]["item"]]


async def test_stream_ends_with_the_plain_answer(server: Server) -> None:
    """However much there is in it, the last event holds what the same request is answered without ``stream``."""
    server.engine.script = EVERYTHING
    plain = await respond(server, tools=[WEATHER])
    events = events_of(await respond(server, tools=[WEATHER], stream=True))
    assert without_times(events[-1]["response"]) == without_times(plain.json)
    assert [item["type"] for item in plain.json["output"]] == ["reasoning", "message", "function_call", "function_call"]


async def test_each_item_is_opened_grown_and_closed_once(server: Server) -> None:
    """Joined, the pieces of an item are what its last event holds; no two items are open at once."""
    server.engine.script = EVERYTHING
    events = events_of(await respond(server, tools=[WEATHER], stream=True))
    steps = [event["type"].removeprefix("response.output_item.") for event in events if "item" in event]
    assert steps == ["added", "done"] * 4
    pieces = Counter[str]()
    texts: dict[str, str] = {}
    for event in events:
        if "delta" in event:
            pieces[event["item_id"]] += 1
            texts[event["item_id"]] = texts.get(event["item_id"], "") + event["delta"]
        if event["type"].endswith(("_text.done", "arguments.done")):
            assert event.get("text", event.get("arguments")) == texts[event["item_id"]]
    assert list(texts.values()) == ["Which city?", '\n\nLet "me" 안녕\n\u2028', '{"city":"Seoul"}', "{}"]
    assert list(pieces.values()) == [2, 2, 2, 1]


async def test_limit_ends_a_stream_incomplete(server: Server) -> None:
    """``response.incomplete`` with its reason, in place of ``response.completed``."""
    events = events_of(await respond(server, stream=True, max_output_tokens=2))
    assert events[-1]["type"] == "response.incomplete"
    assert events[-1]["response"]["incomplete_details"] == {"reason": "max_output_tokens"}
    assert events[-2]["item"]["status"] == "incomplete"


async def test_streamed_logprobs_come_with_their_text(server: Server) -> None:
    """Each piece brings its tokens' log-probabilities, the end of the text all of them."""
    events = events_of(await respond(server, stream=True, include=[LOGPROBS], top_logprobs=1))
    by_piece = [event["logprobs"] for event in events if event["type"] == "response.output_text.delta"]
    assert [[entry["token"] for entry in logprobs] for logprobs in by_piece] == [["I"], [" am"], [" tiny"], [" ."]]
    (done,) = (event for event in events if event["type"] == "response.output_text.done")
    assert done["logprobs"] == [entry for logprobs in by_piece for entry in logprobs]


async def test_broken_stream_says_so_twice(server: Server) -> None:
    """``response.failed`` with what there was of the answer, then ``error``; nothing after them."""
    server.engine.pause_at = 2
    client = Client(server, "/v1/responses", {"model": BASE, "input": "hi", "stream": True})
    await until(lambda: b"am" in client.body)
    server.engine.dead = "out of memory"
    await client.task
    failed, error = events_of(client)[-2:]
    assert failed["type"] == "response.failed"
    assert failed["response"]["status"] == "failed"
    assert failed["response"]["error"]["code"] == "server_error"
    assert failed["response"]["output"][0]["content"][0]["text"] == "I am"
    assert failed["response"]["output"][0]["status"] == "incomplete"
    assert (error["type"], error["code"], error["error"]["code"]) == ("error", "engine_dead", "engine_dead")
    assert error["message"] == error["error"]["message"]


@pytest.mark.parametrize("stream", [True, False])
async def test_client_gone_aborts_the_engine(server: Server, *, stream: bool) -> None:
    """Hanging up ends the work, streamed or not."""
    server.engine.pause_at = 1
    client = Client(server, "/v1/responses", {"model": BASE, "input": "hi", "stream": stream})
    await until(lambda: server.engine.begun)
    client.leave()
    await until(lambda: server.engine.aborted)
    await client.task


class Parsed(pydantic.BaseModel):
    """What an app wants to read."""

    a: int


async def _watch(events: Any, process: Process, seen: list[str]) -> None:
    """Read a stream whose engine dies after its second word."""
    async for event in events:
        seen.append(event.type)
        if seen.count("response.output_text.delta") == 2:
            process.engine.dead = "out of memory"


async def test_official_sdk_reads_every_answer_strictly(tmp_path: Path) -> None:
    """Plain, streamed, accumulated, parsed, and with an error in the middle: the stock client, validating strictly."""
    process = Process(tmp_path)
    process.engine.max_model_len = ROOM
    async with process:
        client = openai.AsyncOpenAI(
            base_url=f"{process.url}/v1", api_key="none", max_retries=0, _strict_response_validation=True
        )
        plain = await client.responses.create(model=BASE, input="hi", store=False)
        assert plain.output_text == "I am tiny ."

        again = await client.responses.create(
            model=BASE, input=cast("Any", [*plain.output, {"role": "user", "content": "b"}])
        )
        assert again.status == "completed"

        process.engine.script = EVERYTHING
        plain = await client.responses.create(model=BASE, input="hi", tools=[WEATHER])  # type: ignore[list-item]
        async with client.responses.stream(model=BASE, input="hi", tools=[WEATHER]) as stream:  # type: ignore[list-item]
            snapshots = [event.snapshot async for event in stream if event.type == "response.output_text.delta"]
            final = await stream.get_final_response()
        assert snapshots[-1] == final.output_text == plain.output_text
        assert [item.type for item in final.output] == [item.type for item in plain.output]

        process.engine.script = [Delta(index=0, text='{"a":7}', tokens=1, finish_reason="stop")]
        parsed = await client.responses.parse(model=BASE, input="hi", text_format=Parsed)
        assert parsed.output_parsed == Parsed(a=7)

        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(plain.id)

        process.engine.script = None
        process.engine.pause_at = 2
        seen: list[str] = []
        with pytest.raises(openai.APIError, match="engine failed"):
            await _watch(await client.responses.create(model=BASE, input="hi", stream=True), process, seen)
        assert seen[-1] == "response.failed"


async def test_schema_of_a_parsed_answer_is_named_in_the_response(server: Server) -> None:
    """Every event that holds the response repeats the format it was asked for."""
    text = {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA, "strict": True}}
    events = events_of(await respond(server, text=text, stream=True))
    formats = [event["response"]["text"]["format"] for event in events if "response" in event]
    assert [found["schema"] for found in formats] == [SCHEMA] * 3
