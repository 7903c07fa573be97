"""Requests made at random from the OpenAPI document: never a server's fault, every refusal in OpenAI's form."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from litestar import Litestar

from services.server.openapi.document import document
from services.server.routes import ROUTES
from tests.unit.server import harness
from tests.unit.server.client import Client
from tests.unit.server.fakes import BASE, roomy_engine
from tests.unit.server.strategies import ANYTHING, NAMES, TEXTS, Bodies

CASES = int(os.environ.get("WHETSTONE_FUZZ_CASES", "200"))
DOCUMENT = document(Litestar(ROUTES, openapi_config=None).routes, harness.settings().limits)
BODIES = Bodies(DOCUMENT)
OPERATIONS = [(path, method) for path, item in DOCUMENT["paths"].items() for method in item]
WRITING = [(path, method) for path, method in OPERATIONS if "requestBody" in DOCUMENT["paths"][path][method]]
REFUSAL, FAULT = 400, 500

# What is most often refused first, so that the rest of a body is looked at, too.
SOUND: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"model": BASE, "messages": [{"role": "user", "content": "hi"}]},
    "/v1/completions": {"model": "acme", "prompt": "hi"},
    "/v1/responses": {"model": BASE, "input": "hi"},
}


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, str, Any, dict[str, str]]:
    """Path with its query, method, body and headers."""
    path, method = draw(st.one_of(st.sampled_from(WRITING), st.sampled_from(OPERATIONS)))
    operation = DOCUMENT["paths"][path][method]
    query = {}
    for parameter in operation.get("parameters", []):
        value = draw(st.one_of(NAMES, TEXTS, st.integers(-1, 2**40).map(str)))
        if parameter["in"] == "path":
            path = path.replace(f"{{{parameter['name']}}}", quote(value, safe="") or "x")
        elif draw(st.booleans()):
            query[parameter["name"]] = value
    body: Any = None
    headers: dict[str, str] = {}
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        body = BODIES.draw(draw, content["schema"])
        if isinstance(body, dict) and draw(st.booleans()):
            body |= SOUND.get(path, {})
        if kind == "multipart/form-data" or draw(st.integers(0, 20)) == 0:
            body = draw(st.one_of(st.binary(max_size=200), ANYTHING.map(lambda value: json.dumps(value).encode())))
        if kind == "multipart/form-data":
            headers["content-type"] = f"{kind}; boundary=x"
    return (f"{path}?{urlencode(query)}" if query else path), method.upper(), body, headers


def test_no_request_is_the_servers_fault(tmp_path: Path) -> None:
    """Whatever is asked: no 5xx but of a service that is not set up, OpenAI's error, and the next request is answered."""
    with asyncio.Runner() as runner:
        server = runner.run(_serving(tmp_path))

        @given(request=requests())
        @settings(
            max_examples=CASES,
            deadline=None,
            database=None,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        )
        def ask(request: tuple[str, str, Any, dict[str, str]]) -> None:
            runner.run(_ask(server, *request))

        ask()
        server.model.renderer.close()


async def _serving(root: Path) -> harness.Server:
    server = harness.Server(root, engine=roomy_engine(), keep_days=1)
    harness.publish_version(server.registry)
    await server.reconcile()
    return server


async def _ask(server: harness.Server, path: str, method: str, body: Any, headers: dict[str, str]) -> None:
    answer: Client = await server.ask(path, body, method=method, headers=headers)
    assert answer.status < FAULT, (answer.status, answer.body)
    if answer.status >= REFUSAL:
        assert answer.error["message"]
    elif method == "POST":
        assert b'"type":"server_error"' not in answer.body
    assert server.services.admission.in_flight == 0
    assert (await server.chat()).status == 200
