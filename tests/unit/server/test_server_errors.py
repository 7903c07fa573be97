"""Each error as the official SDK raises it: its class, and OpenAI's status, type, code and param."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx2
import openai
import pytest

from services.server.errors import LONGEST_RETRY_SECONDS
from services.server.keys import KeyFile
from services.server.lifecycle import Phase
from tests.unit.server.fakes import BASE
from tests.unit.server.harness import Server

HI: Any = [{"role": "user", "content": "hi"}]
Ask = Callable[[openai.AsyncOpenAI], Awaitable[Any]]


@pytest.fixture
async def client(server: Server) -> AsyncIterator[openai.AsyncOpenAI]:
    """The official client on the application itself, without a socket and without retries."""
    app: Any = server.app  # two libraries' words for the same ASGI
    async with openai.AsyncOpenAI(
        base_url="http://server/v1",
        api_key="none",
        max_retries=0,
        http_client=httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app)),
    ) as client:
        yield client


def _chat(**fields: Any) -> Ask:
    return lambda client: client.chat.completions.create(**{"model": BASE, "messages": HI, **fields})


def _post(path: str, **options: Any) -> Ask:
    return lambda client: client.post(path, cast_to=object, **options)


def _nothing(_: Server) -> None:
    pass


def _make_key(server: Server) -> None:
    _keys(server).add("app", ["other"], None)


def _fail(server: Server) -> None:
    server.engine.dead = "killed"


def _wonder(server: Server) -> None:
    server.engine.busy = True


def _drain(server: Server) -> None:
    server.services.lifecycle.phase = Phase.DRAINING


def _fill(server: Server) -> None:
    server.services.admission.capacity = 0


def _break(server: Server) -> None:
    server.services.catalogue.lease = None  # type: ignore[assignment, method-assign]  # a fault nobody foresaw


def _keys(server: Server) -> KeyFile:
    return KeyFile(server.plan.paths.keys / "keys.json")


INVALID = "invalid_request_error"
TEXT: Any = {"options": {"headers": {"content-type": "text/plain"}}, "content": b"hi"}


@pytest.mark.parametrize(
    ("arrange", "ask", "raised", "shape"),
    [
        (_nothing, _chat(temperature=9), openai.BadRequestError, (400, INVALID, "invalid_value", "temperature")),
        (_nothing, _chat(temperature="hot"), openai.BadRequestError, (400, INVALID, "invalid_type", "temperature")),
        (_nothing, _chat(extra_body={"x": 1}), openai.BadRequestError, (400, INVALID, "unknown_parameter", "x")),
        (
            _nothing,
            _post("/completions", body={}),
            openai.BadRequestError,
            (400, INVALID, "missing_required_parameter", "model"),
        ),
        (_make_key, _chat(), openai.AuthenticationError, (401, INVALID, "invalid_api_key", None)),
        (_nothing, _chat(model="nobody"), openai.NotFoundError, (404, INVALID, "model_not_found", "model")),
        (_nothing, _post("/nothing", body={}), openai.NotFoundError, (404, INVALID, "unknown_url", None)),
        (_nothing, _post("/models", body={}), openai.APIStatusError, (405, INVALID, "method_not_allowed", None)),
        (_nothing, _chat(user="x" * 20_000), openai.APIStatusError, (413, INVALID, "request_too_large", None)),
        (
            _nothing,
            _post("/completions", **TEXT),
            openai.APIStatusError,
            (415, INVALID, "unsupported_content_type", None),
        ),
        (_fill, _chat(), openai.RateLimitError, (429, "requests", "rate_limit_exceeded", None)),
        (_break, _chat(), openai.InternalServerError, (500, "server_error", "internal_error", None)),
        (_fail, _chat(), openai.InternalServerError, (503, "server_error", "engine_dead", None)),
        (_wonder, _chat(), openai.InternalServerError, (503, "server_error", "service_unavailable", None)),
        (_wonder, _chat(stream=True), openai.InternalServerError, (503, "server_error", "service_unavailable", None)),
        (_drain, _chat(), openai.InternalServerError, (503, "server_error", "service_unavailable", None)),
    ],
)
async def test_sdk_raises_its_own_class(
    server: Server,
    client: openai.AsyncOpenAI,
    arrange: Callable[[Server], None],
    ask: Ask,
    raised: type[openai.APIStatusError],
    shape: tuple[int, str, str, str | None],
) -> None:
    """Status, type, code and param are OpenAI's, and the request's id is in the exception."""
    arrange(server)
    with pytest.raises(raised) as caught:
        await ask(client)
    error = caught.value
    assert type(error) is raised
    assert (error.status_code, error.type, error.code, error.param) == shape
    assert error.request_id is not None
    waits = "retry-after" in error.response.headers
    assert waits == (error.status_code in {429, 503})
    if waits:
        assert 0 < float(error.response.headers["retry-after"]) <= LONGEST_RETRY_SECONDS


async def test_sdk_raises_permission_denied_for_a_model_of_others(server: Server, client: openai.AsyncOpenAI) -> None:
    """403 with OpenAI's code for it: the model is not there for this key."""
    key = _keys(server).add("app", ["acme"], None)
    with pytest.raises(openai.PermissionDeniedError) as caught:
        await client.with_options(api_key=key).chat.completions.create(model=BASE, messages=HI)
    assert (caught.value.type, caught.value.code, caught.value.param) == (INVALID, "model_not_found", "model")


async def test_sdk_retries_what_is_worth_it(server: Server, client: openai.AsyncOpenAI, monkeypatch: Any) -> None:
    """After the wait that the server names, and not after the SDK's own; a wrong request is not sent again."""
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        server.services.admission.capacity = 8

    monkeypatch.setattr("anyio.sleep", sleep)
    _fill(server)
    await _chat()(client.with_options(max_retries=1))
    assert len(waits) == 1
    assert 1.0 <= waits[0] <= 1.5
    with pytest.raises(openai.BadRequestError):
        await _chat(temperature=9)(client.with_options(max_retries=1))
    assert len(waits) == 1


async def test_method_not_allowed_names_the_allowed(server: Server) -> None:
    """As HTTP demands it."""
    answer = await server.ask("/v1/models", method="POST")
    assert set(answer.headers["allow"].split(", ")) == {"GET", "OPTIONS"}


async def test_value_in_the_wrong_place_is_not_repeated(server: Server) -> None:
    """A prompt sent as a role comes back in no error."""
    answer = await server.chat(messages=[{"role": "my secret question", "content": "user"}])
    assert answer.status == 400
    assert (answer.error["param"], answer.error["code"]) == ("messages[0].role", "invalid_value")
    assert "secret" not in answer.body.decode()
