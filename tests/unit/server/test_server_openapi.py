"""/openapi.json: every route, every limit and every form of answer, as the server really has them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from litestar import Litestar, get

from services.server.engine.protocol import Delta, ToolCallDelta
from services.server.openapi.document import document
from services.server.openapi.headers import TOKENS
from services.server.openapi.operations import OPERATIONS
from services.server.responses.schema import LOGPROBS
from services.server.routes import ROUTES
from tests.unit.server.client import Client
from tests.unit.server.fakes import BASE, roomy_engine
from tests.unit.server.harness import Server, settings, until

APP = Litestar(ROUTES, openapi_config=None)
DOCUMENT = document(APP.routes, settings().limits)
HI = [{"role": "user", "content": "hi"}]
CHAT: dict[str, Any] = {"model": BASE, "messages": HI}
TEXT: dict[str, Any] = {"model": BASE, "prompt": "hi"}
RESPONSE: dict[str, Any] = {"model": BASE, "input": "hi"}
BODIES = {"/v1/chat/completions": CHAT, "/v1/completions": TEXT, "/v1/responses": RESPONSE}


async def test_document_is_served_to_everyone(server: Server) -> None:
    """Without a key and from anywhere, as JSON, the same as the one that is made here."""
    answer = await server.ask("/openapi.json", address="203.0.113.9")
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json == DOCUMENT


def test_every_route_is_described_and_nothing_else() -> None:
    """Paths and methods are the application's own, and no description is left of a route that is gone."""
    described = {(path, method.upper()) for path, item in DOCUMENT["paths"].items() for method in item}
    served = {
        (route.path_format, method)
        for route in APP.routes
        for method in getattr(route, "route_handler_map", {})
        if method != "OPTIONS"
    }
    assert described == served
    assert set(OPERATIONS) == {handler.handler_name for handler in ROUTES}


def test_route_without_a_description_is_an_error_that_says_where_it_belongs() -> None:
    """Nobody can forget it: the application itself does not start."""

    @get("/v1/forgotten")
    async def forgotten() -> str:
        return ""

    with pytest.raises(LookupError, match=r"forgotten.*openapi/operations\.py"):
        document(Litestar([forgotten], openapi_config=None).routes, settings().limits)


def test_document_names_everything_once_and_leads_nowhere() -> None:
    """Every reference is met, every name is plain, every operation says what it does, no address is in it."""
    text = json.dumps(DOCUMENT)
    assert "http://" not in text
    assert "https://" not in text
    for reference in _values(DOCUMENT, "$ref"):
        _, _, kind, name = reference.split("/")
        assert name in DOCUMENT["components"][kind]
    assert not [name for name in DOCUMENT["components"]["schemas"] if "." in name or "services" in name]
    for schema in DOCUMENT["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    for operation in _operations():
        assert operation["summary"]
        assert all(response["description"] for response in operation["responses"].values())
        assert all(parameter["description"] for parameter in operation.get("parameters", []))


def test_generating_routes_are_described_in_full() -> None:
    """Both media types, the key, the limit's headers, and an error answer for every status."""
    for path in BODIES:
        operation = DOCUMENT["paths"][path]["post"]
        assert operation["security"] == [{"bearer": []}]
        assert set(operation["responses"]["200"]["content"]) == {"application/json", "text/event-stream"}
        assert set(operation["responses"]) >= {
            "400",
            "401",
            "403",
            "404",
            "408",
            "413",
            "415",
            "429",
            "500",
            "503",
            "504",
        }
        for status, response in operation["responses"].items():
            assert ("x-ratelimit-limit-requests" in response["headers"]) == (status != "401")
            assert ("retry-after" in response["headers"]) == (status in {"429", "503"})


KEYWORDS = ("minimum", "maximum", "exclusiveMinimum", "minLength", "maxLength", "maxItems", "maxProperties")


@pytest.mark.parametrize(
    ("path", "kind", "count"),
    [
        ("/v1/chat/completions", "ChatRequest", 25),
        ("/v1/completions", "CompletionRequest", 20),
        ("/v1/responses", "ResponsesRequest", 8),
    ],
)
async def test_limits_are_where_the_document_says(server: Server, path: str, kind: str, count: int) -> None:
    """The value at a limit is taken, the one beyond it is refused by name; for every limit of a body."""
    properties = DOCUMENT["components"]["schemas"][kind]["properties"]
    limits = [
        (field, word, schema[word]) for field, schema in properties.items() for word in KEYWORDS if word in schema
    ]
    assert len(limits) >= count
    for field, keyword, limit in limits:
        within, beyond = _around(path, field, keyword, limit)
        body = {**BODIES[path], **_beside(path, field)}
        taken = await server.ask(path, {**body, field: within})
        assert taken.status == 200, (field, keyword, taken.body)
        refused = await server.ask(path, {**body, field: beyond})
        assert (refused.status, refused.error["param"]) == (400, field), (field, keyword)


def _around(path: str, field: str, keyword: str, limit: Any) -> tuple[Any, Any]:
    """A value at a limit, and one beyond it."""
    texts = {"messages": HI[0], "stop": "x", "tools": None}
    if keyword == "exclusiveMinimum":
        return limit + 0.1, limit
    if keyword in {"minimum", "maximum"}:
        return limit, limit + (1 if keyword == "maximum" else -1)
    if keyword in {"minLength", "maxLength"}:
        return "x" * limit, "x" * (limit + (1 if keyword == "maxLength" else -1))
    if keyword == "maxProperties":
        return {str(token): 0 for token in range(limit)}, {str(token): 0 for token in range(limit + 1)}
    if field == "tools":
        names = [f"f{number}" for number in range(limit + 1)]
        made = [{"type": "function", "function": {"name": name}} for name in names]
        if path == "/v1/responses":
            made = [{"type": "function", "name": name} for name in names]
        return made[:-1], made
    return [texts[field]] * limit, [texts[field]] * (limit + 1)


def _beside(path: str, field: str) -> dict[str, Any]:
    """What a field needs beside it."""
    if field == "top_logprobs":
        return {"logprobs": True} if path == "/v1/chat/completions" else {"include": [LOGPROBS]}
    return {"tool_choice": "none"} if field == "tools" else {}  # else they are told to the model, and fill its context


ANSWERS = [
    ("/v1/chat/completions", "post", {**CHAT, "logprobs": True, "top_logprobs": 1, "n": 2}),
    ("/v1/chat/completions", "post", {**CHAT, "max_tokens": 2}),
    ("/v1/chat/completions", "post", {**CHAT, "stream": True, "logprobs": True, "top_logprobs": 1}),
    ("/v1/chat/completions", "post", {**CHAT, "stream": True, "stream_options": {"include_usage": True}}),
    ("/v1/chat/completions", "post", {**CHAT, "temperature": 9}),
    ("/v1/chat/completions", "post", {**CHAT, "model": "nobody"}),
    ("/v1/completions", "post", {**TEXT, "echo": True, "logprobs": 1}),
    ("/v1/completions", "post", {**TEXT, "prompt": ["a", "b"]}),
    ("/v1/completions", "post", {**TEXT, "stream": True, "echo": True, "logprobs": 1}),
    ("/v1/completions", "post", {**TEXT, "stream": True, "stream_options": {"include_usage": True}}),
    ("/v1/responses", "post", RESPONSE),
    ("/v1/responses", "post", {**RESPONSE, "include": [LOGPROBS], "top_logprobs": 1, "max_output_tokens": 2}),
    ("/v1/responses", "post", {**RESPONSE, "stream": True, "include": [LOGPROBS], "top_logprobs": 1}),
    ("/v1/responses", "post", {**RESPONSE, "stream": True, "text": {"format": {"type": "json_object"}}}),
    ("/v1/responses/{response_id}", "get", None),
    ("/v1/embeddings", "post", {"model": BASE, "input": "hi"}),
    ("/v1/models", "get", None),
    ("/v1/models/{model}", "get", None),
    ("/v1/files", "get", None),
    ("/v1/fine_tuning/jobs", "get", None),
    ("/livez", "get", None),
    ("/readyz", "get", None),
]


async def test_answers_are_as_described(server: Server) -> None:
    """Status, media type, headers and every field, of whole answers and of each event of a stream."""
    for path, method, body in ANSWERS:
        _check(await server.ask(path.format(model=BASE, response_id="resp_1"), body), path, method)


async def test_stored_responses_are_as_described(tmp_path: Path) -> None:
    """Where storing is switched on: the answer, what it answered with every kind of item, what is left of it, 404."""
    server = Server(tmp_path, engine=roomy_engine(), keep_days=1)
    items: list[dict[str, Any]] = [
        {"role": "user", "content": "hi"},
        {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}]},
        {"role": "assistant", "content": "Let me look."},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "o"}]},
    ]
    first = await server.ask("/v1/responses", {**RESPONSE, "input": items})
    stream = {**RESPONSE, "stream": True, "previous_response_id": first.json["id"]}
    _check(first, "/v1/responses", "post")
    _check(await server.ask("/v1/responses", stream), "/v1/responses", "post")
    route = "/v1/responses/{response_id}"
    path = route.format(response_id=first.json["id"])
    _check(await server.ask(f"{path}/input_items"), f"{route}/input_items", "get")
    for method in ("get", "delete", "get"):
        _check(await server.ask(path, method=method.upper()), route, method)
    server.model.renderer.close()


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses"])
async def test_thoughts_and_calls_are_as_described(server: Server, path: str, *, stream: bool) -> None:
    """An answer that thinks, speaks and calls holds nothing that the document does not."""
    server.engine.script = [
        Delta(index=0, text="", tokens=1, reasoning="Hm."),
        Delta(index=0, text="Let me look.", tokens=1),
        Delta(index=0, text="", tokens=1, tool_calls=(ToolCallDelta(index=0, id="call_1", name="weather"),)),
        Delta(index=0, text="", tokens=1, tool_calls=(ToolCallDelta(index=0, arguments="{}"),)),
        Delta(index=0, text="", tokens=1, finish_reason="tool_calls", reasoning_tokens=1),
    ]
    answer = await server.ask(path, {**BODIES[path], "stream": stream})
    assert b"Hm." in answer.body
    assert b"call_1" in answer.body
    _check(answer, path, "post")


@pytest.mark.parametrize("path", list(BODIES))
async def test_error_within_a_stream_is_as_described(server: Server, path: str) -> None:
    """What an engine that dies leaves of a stream holds nothing that the document does not."""
    server.engine.pause_at = 2
    client = Client(server, path, {**BODIES[path], "stream": True})
    await until(lambda: not server.engine.gate.is_set())
    server.engine.dead = "killed"
    await client.task
    assert b"engine_dead" in client.body
    _check(client, path, "post")


async def test_description_is_no_wider_than_the_answer(server: Server) -> None:
    """A field more, and a field less, is off the schema: the test above can fail."""
    whole = (await server.chat()).json
    schema = {"$ref": "#/components/schemas/ChatCompletion"}
    for other in ({**whole, "more": 1}, {name: value for name, value in whole.items() if name != "usage"}):
        with pytest.raises(jsonschema.ValidationError):
            _validate(other, schema)


async def test_query_of_the_wrong_type_is_named(server: Server) -> None:
    """400 with the parameter's name, and without the query's text."""
    answer = await server.ask("/v1/files?limit=secret")
    assert answer.status == 400
    assert (answer.error["param"], answer.error["code"]) == ("limit", "invalid_type")
    assert "secret" not in answer.error["message"]


def _documents(answer: Client) -> list[Any]:
    if answer.headers["content-type"].startswith("text/event-stream"):
        lines = answer.body.decode().split("\n")
        data = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
        return [json.loads(line) for line in data if line != "[DONE]"]
    return [answer.json]


def _check(answer: Client, path: str, method: str) -> None:
    """Hold an answer against its description."""
    response = DOCUMENT["paths"][path][method]["responses"][str(answer.status)]
    assert set(response["headers"]) - set(TOKENS) <= set(answer.headers)
    described = response["content"][answer.headers["content-type"].partition(";")[0]]
    for part in _documents(answer):
        _validate(part, described.get("schema") or _of_an_event(described, part))


def _of_an_event(described: dict[str, Any], event: Any) -> dict[str, Any]:
    """The schema of an event: the first form of its data, or an error's where there is one and the event is one."""
    forms = [form for form in described["itemSchema"]["properties"]["data"]["anyOf"] if "contentSchema" in form]
    schema: dict[str, Any] = forms[-1 if set(event) == {"error"} else 0]["contentSchema"]
    return schema


def _validate(value: Any, schema: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator({**schema, "components": DOCUMENT["components"]}).validate(value)


def _operations() -> Iterator[dict[str, Any]]:
    for item in DOCUMENT["paths"].values():
        yield from item.values()


def _values(value: Any, key: str) -> Iterator[Any]:
    """Every value under ``key``, however deep."""
    if isinstance(value, dict):
        if key in value:
            yield value[key]
        for inner in value.values():
            yield from _values(inner, key)
    elif isinstance(value, list):
        for inner in value:
            yield from _values(inner, key)
