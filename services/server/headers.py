"""Headers of every answer: its id, how long it took and, on generating routes, how much more may be asked for."""

import re
import time
from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from services.common.logs import about_request
from services.server.admission import Allowance
from services.server.identity import unguessable
from services.server.lifecycle import Lifecycle

SERVER = (b"server", b"whetstone")  # else Granian names itself
CLOSE = (b"connection", b"close")
REQUEST_ID = b"x-request-id"
PROCESSING_MS = b"openai-processing-ms"
LIMIT = b"x-ratelimit-limit-requests"
REMAINING = b"x-ratelimit-remaining-requests"
RESET = b"x-ratelimit-reset-requests"
TOKEN_LIMIT = b"x-ratelimit-limit-tokens"
TOKENS_REMAINING = b"x-ratelimit-remaining-tokens"
TOKENS_RESET = b"x-ratelimit-reset-tokens"

_SANE = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_MILLISECONDS = 1000


class AnswerHeaders:
    """ASGI middleware around the whole application: Litestar's own misses unknown routes.

    ``x-request-id`` is the client's where it is sane, and else made; log lines carry it too. ``openai-processing-ms`` of a
    stream is the time until its first byte. (The ASGI server runs each request in a task of its own, so what log lines carry
    needs no taking back.)
    """

    def __init__(self, app: ASGIApp, lifecycle: Lifecycle) -> None:
        self._app = app
        self._lifecycle = lifecycle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Name the request, pass it on, and complete its answer's headers."""
        began = time.monotonic()
        asked = given(scope, REQUEST_ID) or b""
        name = asked if _SANE.fullmatch(asked) else f"req_{unguessable()}".encode()

        async def send_headed(message: Message) -> None:
            if message["type"] == "http.response.start":
                elapsed = b"%d" % ((time.monotonic() - began) * _MILLISECONDS)
                own = [SERVER, (REQUEST_ID, name), (PROCESSING_MS, elapsed)]
                if self._lifecycle.ending:  # no next request crosses the connection's end
                    own.append(CLOSE)
                message["headers"] = [*message["headers"], *own, *_rate_limit(scope)]
            await send(message)

        about_request(name.decode())
        await self._app(scope, receive, send_headed)


def given(scope: Scope, name: bytes) -> bytes | None:
    """The value of a request's header, by its name in small letters; Litestar would make an object of all of them."""
    for other, value in scope.get("headers", ()):  # none in a lifespan
        if other == name:
            return value
    return None


async def tell_allowance(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """Guard of generating routes, after the key's: their answers, errors too, say how much more may be asked for.

    It refuses nobody. What it puts into the request's state is asked again when the answer's headers are written.
    """
    connection.scope["state"]["allowance"] = connection.app.state.services.admission.allowance


def _rate_limit(scope: Scope) -> list[tuple[bytes, bytes]]:
    state = scope.get("state", {})
    told = []
    if (ask := state.get("allowance")) is not None:
        told += _named(ask(), LIMIT, REMAINING, RESET)
    if (ask := state.get("token_allowance")) is not None:  # only where the key has a limit on them
        told += _named(ask(), TOKEN_LIMIT, TOKENS_REMAINING, TOKENS_RESET)
    return told


def _named(allowance: Allowance, limit: bytes, remaining: bytes, reset: bytes) -> list[tuple[bytes, bytes]]:
    return [
        (limit, b"%d" % allowance.limit),
        (remaining, b"%d" % allowance.remaining),
        (reset, b"%ds" % allowance.reset_seconds),
    ]
