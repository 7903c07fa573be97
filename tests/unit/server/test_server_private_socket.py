"""What the trainer's container may ask for: through the private socket a closed list of routes answers, and nothing else does."""

from typing import Any

import pytest
from litestar import Litestar
from litestar.types import ASGIApp

from services.server.auth import GATE, PrivateDoor
from services.server.keys import KeyFile
from services.server.routes import ROUTES
from tests.unit.server.client import Client
from tests.unit.server.fakes import BASE
from tests.unit.server.harness import Server

CHAT = {"model": BASE, "messages": [{"role": "user", "content": "hi"}]}
SCORE = {"model": BASE, "prompt": [1, 2, 3], "echo": True, "logprobs": 0, "max_tokens": 1}
ADMITTED: dict[tuple[str, str], Any] = {
    ("GET", "/readyz"): None,
    ("GET", "/v1/models/{model}"): None,
    ("POST", "/v1/chat/completions"): CHAT,
    ("POST", "/v1/completions"): SCORE,
}


class Inside:
    """The application as who opens the private socket meets it.

    Attributes:
        app: behind its door.
    """

    def __init__(self, server: Server) -> None:
        self.app: ASGIApp = PrivateDoor(server.app)

    async def ask(self, path: str, body: Any = None, **options: Any) -> Client:
        """One request from its first byte to its last."""
        client = Client(self, path, body, **options)
        await client.task
        return client


def _every_route() -> list[tuple[str, str]]:
    routes = Litestar(ROUTES, openapi_config=None).routes
    return [
        (method, route.path_format)
        for route in routes
        for method in getattr(route, "route_handler_map", {})
        if method != "OPTIONS"  # says which methods there are, to everyone
    ]


@pytest.mark.parametrize("keys", [False, True], ids=["keyless", "keys"])
async def test_only_what_the_gate_needs_answers(server: Server, *, keys: bool) -> None:
    """Every other route is refused in OpenAI's form, whatever it is sent, with every role's key and where no key was ever made."""
    file = KeyFile(server.plan.paths.keys / "keys.json")
    every = {"authorization": f"Bearer {file.add('all', ['*'], None, roles=['inference', 'fine-tuning', 'admin'])}"}
    if not keys:
        file.file.unlink()
    inside, routes = Inside(server), _every_route()
    assert set(ADMITTED) < set(routes)
    assert len(routes) > 20
    for method, path in routes:
        asked = path.replace("{model}", BASE)
        if (method, path) in ADMITTED:
            assert (await inside.ask(asked, ADMITTED[method, path], method=method)).status == 200, path
            continue
        for headers in ({}, every):
            refused = await inside.ask(asked, b"{" if method == "POST" else None, method=method, headers=headers)
            assert (refused.status, refused.error["code"]) == (403, "missing_scope"), path
            assert refused.error["type"] == "invalid_request_error"


@pytest.mark.parametrize("path", ["/v1/files/", "//v1/files", "/readyz/../metrics", "/v1/models/../files", "/METRICS"])
async def test_a_path_in_other_words_opens_nothing_more(server: Server, path: str) -> None:
    """It is a route that is refused, or none."""
    assert (await Inside(server).ask(path)).status in {403, 404}


async def test_the_gate_has_no_other_role(server: Server) -> None:
    """Were the guard of all routes forgotten on one, its own role would still refuse."""
    assert [role for role in ("inference", "fine-tuning", "admin") if GATE.may(role)] == ["inference"]
    assert (await Inside(server).ask("/readyz")).json["base"] == BASE
