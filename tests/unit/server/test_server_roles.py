"""Roles: what a key may do, by the route that was matched and nothing else."""

import json
from pathlib import Path
from typing import Any

import pytest
from litestar import Litestar, Request, Response, get
from litestar.datastructures import State
from litestar.types import ASGIApp

from services.server.__main__ import main
from services.server.auth import PrivateDoor, only_what_the_gate_needs, require_key
from services.server.errors import ServerError
from services.server.keys import KeyFile, Role
from services.server.routes import ROUTES
from tests.unit.server.client import Client
from tests.unit.server.fakes import BASE
from tests.unit.server.harness import Server

INFERENCE: Role = "inference"
TUNING: Role = "fine-tuning"
ADMIN: Role = "admin"
CHAT = {"model": BASE, "messages": [{"role": "user", "content": "hi"}]}
OPEN = {"/livez", "/readyz", "/metrics", "/openapi.json"}  # the two in the middle ask on their own
ROLES: dict[str, Role | None] = {
    "/v1/chat/completions": INFERENCE,
    "/v1/completions": INFERENCE,
    "/v1/responses": INFERENCE,
    "/v1/embeddings": INFERENCE,
    "/v1/files": TUNING,
    "/v1/fine_tuning": TUNING,
    "/v1/models": None,
}


def _headers(server: Server, *roles: Role) -> dict[str, str]:
    name = "-".join(roles)
    key = KeyFile(server.plan.paths.keys / "keys.json").add(name, ["*"], None, roles=list(roles))
    return {"authorization": f"Bearer {key}"}


def _every_route() -> list[tuple[str, str, Role | None]]:
    """Path, method and the role it must ask for."""
    found = []
    for route in Litestar(ROUTES, openapi_config=None).routes:
        path = route.path_format
        for method in getattr(route, "route_handler_map", {}):
            if method != "OPTIONS" and path not in OPEN:
                [role] = [role for prefix, role in ROLES.items() if path == prefix or path.startswith(f"{prefix}/")]
                found.append((path, method, TUNING if method == "DELETE" and path == "/v1/models/{model}" else role))
    return found


async def test_every_route_asks_for_its_role(server: Server) -> None:
    """403 with a key that has the other roles only, before anything else is looked at; never with one that has it."""
    every: tuple[Role, ...] = (INFERENCE, TUNING, ADMIN)
    without = {role: _headers(server, *(other for other in every if other != role)) for role in every}
    alone = {role: _headers(server, role) for role in every}
    routes = _every_route()
    assert len(routes) > 20
    for path, method, role in routes:
        body: Any = b"{" if method == "POST" else None
        if role is None:
            assert (await server.ask(path, body, method=method, headers=alone[ADMIN])).status != 403
            continue
        refused = await server.ask(path, body, method=method, headers=without[role])
        assert (refused.status, refused.error["code"]) == (403, "missing_scope"), path
        assert role in refused.error["message"]
        assert (await server.ask(path, body, method=method, headers=alone[role])).status != 403, path


@pytest.mark.parametrize(
    "path",
    [
        "/v1/files/",
        "/v1/%66iles",
        "//v1/files",
        "/v1/./files",
        "/v1/x/../files",
        "/v1/chat/completions/../../files",
        "/V1/files",
    ],
)
async def test_a_path_in_other_words_opens_nothing(server: Server, path: str) -> None:
    """It is the same route, which asks for its role, or none; a Host header changes nothing, or is refused itself."""
    asking = _headers(server, INFERENCE)
    for host in ("127.0.0.1", "localhost", "/v1/chat/completions"):
        answer = await server.ask(path, headers={**asking, "host": host, "x-forwarded-host": host})
        assert answer.status in {400, 403, 404}, path


@get("/v1/files/told-otherwise", guards=[require_key], role="inference", private_socket=True, sync_to_thread=False)
def _inferring() -> str:
    return "inference"


@get("/v1/chat/completions/told-otherwise", guards=[require_key], role="fine-tuning", sync_to_thread=False)
def _tuning() -> str:
    return "fine-tuning"


class Misnamed:
    """Two routes of whose roles their paths tell the contrary, behind the server's guards."""

    def __init__(self, server: Server) -> None:
        def refuse(_: Request[Any, Any, Any], error: ServerError) -> Response[Any]:
            return Response(error.body(), status_code=error.status, media_type="application/json")

        self.app: ASGIApp = Litestar(
            [_inferring, _tuning],
            guards=[only_what_the_gate_needs],
            state=State({"services": server.services}),
            exception_handlers={ServerError: refuse},
            openapi_config=None,
        )

    async def ask(self, path: str, headers: dict[str, str] | None = None) -> int:
        """The status of the answer."""
        client = Client(self, path, headers=headers)
        await client.task
        return client.status


@pytest.mark.parametrize("last", ["told-otherwise", "told%2Dotherwise"])
async def test_the_route_that_matched_decides_and_not_its_path(server: Server, last: str) -> None:
    """A role that were read off the path would open the one that a key must not, and close the one that it may; the private socket likewise."""
    routes, paths = Misnamed(server), [f"/v1/files/{last}", f"/v1/chat/completions/{last}"]
    keys = {role: _headers(server, role) for role in (INFERENCE, TUNING)}
    statuses = {role: [await routes.ask(path, headers) for path in paths] for role, headers in keys.items()}
    assert statuses == {INFERENCE: [200, 403], TUNING: [403, 200]}
    routes.app = PrivateDoor(routes.app)
    assert [await routes.ask(path) for path in paths] == [200, 403]


async def test_keys_from_before_roles_may_do_what_they_could(server: Server) -> None:
    """An older release's ``keys.json`` goes on working, for everything."""
    headers = _headers(server, INFERENCE)
    file = server.plan.paths.keys / "keys.json"
    keys = json.loads(file.read_text())
    old = {name: keys["keys"][0][name] for name in ("name", "sha256", "models", "created", "expires", "revoked")}
    file.write_text(json.dumps({"keys": [old]}))
    assert (await server.ask(body=CHAT, headers=headers)).status == 200
    assert (await server.ask("/v1/files", headers=headers)).status == 200
    assert (await server.ask("/metrics", headers=headers, address="10.0.0.9")).status == 200


def test_roles_are_given_by_the_operator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """``inference`` where nothing is said; a role that does not exist makes no key."""
    monkeypatch.setenv("WHETSTONE_DATA", str(tmp_path))
    assert main(["key", "add", "app"]) == 0
    assert main(["key", "add", "both", "--roles", "inference, fine-tuning"]) == 0
    roles = {key.name: key.roles for key in KeyFile(tmp_path / "keys" / "keys.json").load()}
    assert roles == {"app": [INFERENCE], "both": [INFERENCE, TUNING]}
    capsys.readouterr()
    assert main(["key", "list"]) == 0
    assert "roles inference,fine-tuning" in capsys.readouterr().out
    for wrong in ("root", "inference,root", ","):
        with pytest.raises(SystemExit):
            main(["key", "add", "other", "--roles", wrong])
        assert "inference,fine-tuning,admin" in capsys.readouterr().err
