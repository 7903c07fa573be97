"""A query has each parameter once, on every route; lists are the exception."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from litestar import Request
from openai.types.responses import ResponseIncludable

from services.server.errors import BadRequest
from services.server.keys import KeyFile
from services.server.query import refuse_repeated
from tests.unit.server.client import Client
from tests.unit.server.fakes import BASE, roomy_engine
from tests.unit.server.harness import Server
from tests.unit.server.sdk import sdk
from tests.unit.server.test_server_openapi import DOCUMENT

SECRET = "a-value-of-the-query"
ROUTES = [(path, method, described) for path, item in DOCUMENT["paths"].items() for method, described in item.items()]


@pytest.fixture
def storing(tmp_path: Path) -> Iterator[Server]:
    """A server that stores responses."""
    server = Server(tmp_path, engine=roomy_engine(), keep_days=1)
    yield server
    server.model.renderer.close()


async def _repeat(server: Server, path: str, method: str, name: str, **options: Any) -> Client:
    query = urlencode([(name, SECRET), ("other", "1"), (name, SECRET)])
    return await server.ask(f"{path}?{query}", b"{" if method == "post" else None, method=method.upper(), **options)


async def test_a_repeated_parameter_is_refused_by_name_on_every_route(server: Server) -> None:
    """400 with the name and no value, whether the route knows the parameter or not, and the page says so."""
    for path, method, described in ROUTES:
        known = [parameter["name"] for parameter in described.get("parameters", []) if parameter["in"] == "query"]
        for name in ("stream", "metadata[a]", *known):
            refused = await _repeat(server, path, method, name)
            assert (refused.status, refused.error["param"]) == (400, name), (method, path)
            assert refused.error["code"] == "invalid_value"
            assert refused.error["type"] == "invalid_request_error"
            assert SECRET not in refused.body.decode()
        assert "400" in described["responses"], (method, path)


async def test_who_has_no_key_learns_nothing_of_the_query(server: Server) -> None:
    """401 before anything else is looked at."""
    KeyFile(server.plan.paths.keys / "keys.json").add("app", ["*"], None)
    guarded = [(path, method) for path, method, described in ROUTES if described.get("security") == [{"bearer": []}]]
    assert len(guarded) > 20
    for path, method in guarded:
        assert (await _repeat(server, path, method, "stream")).status == 401, path


@pytest.mark.parametrize("values", [("true", "false"), ("x", "false"), ("false", "false")])
async def test_no_value_of_a_parameter_is_passed_over(storing: Server, values: tuple[str, str]) -> None:
    """What would be refused alone is refused before a value that would not, and so is the same value again."""
    stored = (await storing.ask("/v1/responses", {"model": BASE, "input": "hi"})).json["id"]
    query = urlencode([("stream", value) for value in values])
    refused = await storing.ask(f"/v1/responses/{stored}?{query}")
    assert (refused.status, refused.error["param"]) == (400, "stream")


@given(names=st.lists(st.sampled_from(["after", "limit", "stream", "a b", "한", "", "include", "include[]", "x[]"])))
def test_only_what_comes_again_is_refused(names: list[str]) -> None:
    """Any parameters in any order: the first that comes a second time and is no list is the one that is named."""
    once = [name for name in names if name not in {"include", "include[]"}]
    again = next((name for number, name in enumerate(once) if name in once[:number]), None)
    assert _refused(urlencode([(name, SECRET) for name in names])) == again


def _refused(query: str) -> str | None:
    """The parameter for which a query is refused."""
    scope: Any = {"type": "http", "query_string": query.encode(), "state": {}}
    try:
        asyncio.run(refuse_repeated(Request(scope)))
    except BadRequest as error:
        return error.param
    return None


async def test_a_list_is_given_as_the_sdk_gives_it(storing: Server) -> None:
    """``include`` of several values, whose every one counts, and metadata of several names."""
    client = sdk(storing)
    stored = (await client.responses.create(model=BASE, input="hi")).id
    several: list[ResponseIncludable] = ["reasoning.encrypted_content", "message.input_image.image_url"]
    assert (await client.responses.retrieve(stored, include=several)).id == stored
    with pytest.raises(openai.BadRequestError, match="not stored"):
        await client.responses.retrieve(stored, include=["message.output_text.logprobs", *several])
    assert (await client.responses.input_items.list(stored, include=several)).data
    assert not (await client.fine_tuning.jobs.list(metadata={"a": "1", "b": "1"})).data
