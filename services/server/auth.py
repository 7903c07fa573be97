"""Who may ask for what. Decided on the matched route, by a guard; never on the text of a URL or a Host header."""

import ipaddress
import time
from datetime import UTC, datetime
from typing import Any

import structlog
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.types import ASGIApp, Receive, Scope, Send

from services.jobs.records import OPERATOR as OPERATOR_NAME
from services.registry.layout import split_model_name
from services.server.errors import InvalidApiKey, ModelForbidden, RoleMissing
from services.server.headers import given
from services.server.keys import ALL_MODELS, KEYLESS_NAME, Key, KeyFile, KeysError, Role
from services.server.limits.account import Clock

log = structlog.get_logger(__name__)

Connection = ASGIConnection[Any, Any, Any, Any]
KEYLESS = Key(name=KEYLESS_NAME, sha256="", models=[ALL_MODELS], created="")
# Who comes through the private socket: the gate, which asks on the operator's behalf. One role, and of that only routes that say so.
GATE = Key(name=OPERATOR_NAME, sha256="", models=[ALL_MODELS], created="", roles=["inference"])
_PRIVATE_DOOR = ("the private socket", 0)  # in place of an address; no address looks like it


class Doorkeeper:
    """Turns a connection's credentials into a ``Key``.

    Args:
        keys: the keys' file.
        look_seconds: it is looked at this often at most; 0 for each request.
        clock: seconds that only grow.

    Attributes:
        problem: why the file cannot be read; None while it can.
    """

    def __init__(self, keys: KeyFile, look_seconds: float, clock: Clock = time.monotonic) -> None:
        self._keys = keys
        self._look_seconds = look_seconds
        self._clock = clock
        self.problem: str | None = None
        self._known: list[Key] = []
        self._look_again = 0.0

    @property
    def keyless(self) -> bool:
        """Whether no key was ever made, so that everyone may ask."""
        now = self._clock()
        if now >= self._look_again:
            self._look_again = now + self._look_seconds
            self._look()
        return not self._known and self.problem is None

    def identify(self, authorization: str | None) -> Key:
        """The key of an ``Authorization`` header; where no key was ever made, everyone is ``keyless``.

        Raises:
            InvalidApiKey: there are keys, and this is none that counts.
        """
        if self.keyless:
            return KEYLESS
        scheme, _, presented = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not presented.strip():
            raise InvalidApiKey("You didn't provide an API key. Send it as 'Authorization: Bearer KEY'.")
        key = self._keys.find(presented.strip(), datetime.now(UTC))
        if key is None and self._look():  # it was made a moment ago
            key = self._keys.find(presented.strip(), datetime.now(UTC))
        if key is None:
            raise InvalidApiKey("Incorrect API key provided.")
        return key

    def require_admin(self, connection: Connection) -> None:
        """Let callers on this machine pass, and keys with the role ``admin``: details of the server are for them.

        The private socket is on this machine; which routes it has is ``only_what_the_gate_needs``'s business.

        Raises:
            InvalidApiKey: there are keys, and this is none that counts.
            RoleMissing: the key has another role.
        """
        client = connection.scope.get("client")
        if not is_private(connection) and (client is None or not is_loopback(client[0])):
            require_role(self.identify(_authorization(connection)), "admin")

    def _look(self) -> bool:
        """Read the file again if it changed; whether it did. An unreadable file changes nothing and opens nothing."""
        before = self._known
        try:
            self._known = self._keys.load()
            self.problem = None
        except KeysError as error:
            if self.problem is None:
                log.error("keys cannot be read; the keys read before stay in force", reason=str(error))  # noqa: TRY400 - no trace
            self.problem = str(error)
        return self._known is not before


async def require_key(connection: Connection, handler: BaseRouteHandler) -> None:
    """Guard: put the caller's key into the request's state, or answer 401; 403 where it lacks the route's ``role``.

    Every route with this guard names its role, and be it None for any: one that was forgotten is an error, not an open door.
    (A coroutine, for Litestar would run a plain function in a thread.)
    """
    doorkeeper: Doorkeeper = connection.app.state.services.doorkeeper
    key = GATE if is_private(connection) else doorkeeper.identify(_authorization(connection))
    role: Role | None = handler.opt["role"]
    if role is not None:
        require_role(key, role)
    connection.scope["state"]["key"] = key


def _authorization(connection: Connection) -> str | None:
    value = given(connection.scope, b"authorization")
    return None if value is None else value.decode("latin-1")


def require_role(key: Key, role: Role) -> None:
    """Raise unless ``key`` has ``role``.

    Raises:
        RoleMissing: it has not.
    """
    if not key.may(role):
        raise RoleMissing(f"The key '{key.name}' has not the role '{role}'; ask whoever made it for a key that has.")


async def only_what_the_gate_needs(connection: Connection, handler: BaseRouteHandler) -> None:
    """Guard of every route: through the private socket, 403 on all that do not say ``private_socket=True`` where they are declared.

    Whoever could open it needs no key; the trainer's container can, so what it may ask for is a closed list.

    Raises:
        RoleMissing: the route is not on it.
    """
    if is_private(connection) and handler.opt.get("private_socket") is not True:
        raise RoleMissing("The private socket has not this route; ask through the port, with a key that has its role.")


class PrivateDoor:
    """ASGI application behind the private socket."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Mark the connection and pass it on."""
        if scope["type"] == "http":  # type: ignore[comparison-overlap]  # Litestar's enum is a string
            scope["client"] = _PRIVATE_DOOR
        await self._app(scope, receive, send)


def is_private(connection: Connection) -> bool:
    """Whether a connection came through the private socket."""
    return connection.scope.get("client") == _PRIVATE_DOOR


def authorize_model(key: Key, model: str) -> None:
    """Raise unless ``key`` covers ``model``.

    Raises:
        ModelForbidden: it does not.
    """
    name, _ = split_model_name(model)
    if not key.covers(name):
        raise ModelForbidden(f"The key '{key.name}' may not use the model '{model[:200]}'.", param="model")


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's own."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
