"""``x-request-id``: taken from the client where it is sane, made where not, on every answer and every log line."""

import re
import secrets

from litestar.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

HEADER = b"x-request-id"
_SANE = re.compile(rb"[A-Za-z0-9._-]{1,128}")


class RequestIds:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Name the request and pass it on."""
        given = next((value for name, value in scope.get("headers", ()) if name == HEADER), b"")  # none in a lifespan
        name = given if _SANE.fullmatch(given) else f"req_{secrets.token_hex(12)}".encode()

        async def send_named(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (HEADER, name)]
            await send(message)

        with bound_contextvars(request_id=name.decode()):
            await self._app(scope, receive, send_named)
