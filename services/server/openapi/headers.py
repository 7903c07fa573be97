"""The answers' headers in the document."""

from typing import Any

from litestar.handlers import HTTPRouteHandler

from services.server.errors import LONGEST_RETRY_SECONDS, InvalidApiKey, Overloaded, ServerError, Unavailable
from services.server.headers import (
    LIMIT,
    PROCESSING_MS,
    REMAINING,
    REQUEST_ID,
    RESET,
    TOKEN_LIMIT,
    TOKENS_REMAINING,
    TOKENS_RESET,
    tell_allowance,
)

_WHOLE = {"type": "integer", "minimum": 0}
_SPAN = {"type": "string", "pattern": "^[0-9]+s$"}
_EVERY = (REQUEST_ID.decode(), PROCESSING_MS.decode())
_RATE_LIMIT = (LIMIT.decode(), REMAINING.decode(), RESET.decode())
TOKENS = (TOKEN_LIMIT.decode(), TOKENS_REMAINING.decode(), TOKENS_RESET.decode())
_RETRY = ("retry-after", "retry-after-ms")
_REFERENCE = "#/components/headers/"


def _header(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "schema": schema}


HEADERS = {
    REQUEST_ID.decode(): _header("The client's, or made; the server's log has it.", {"type": "string"}),
    PROCESSING_MS.decode(): _header("Milliseconds until the answer, or a stream's first byte.", _WHOLE),
    LIMIT.decode(): _header(
        "The key's requests a minute; without such a limit, answers that may run or wait at once.", _WHOLE
    ),
    REMAINING.decode(): _header("How many more now.", _WHOLE),
    RESET.decode(): _header("When all will be there again.", _SPAN),
    TOKEN_LIMIT.decode(): _header("The key's tokens a minute; absent without such a limit.", _WHOLE),
    TOKENS_REMAINING.decode(): _header("How many more now.", _WHOLE),
    TOKENS_RESET.decode(): _header("When all will be there again.", _SPAN),
    "retry-after": _header("Seconds after which to try again.", {**_WHOLE, "maximum": LONGEST_RETRY_SECONDS}),
    "retry-after-ms": _header(
        "The same in milliseconds, and spread.", {**_WHOLE, "maximum": LONGEST_RETRY_SECONDS * 1000}
    ),
}


def headers_of(handler: HTTPRouteHandler, status: int, errors: list[type[ServerError]]) -> dict[str, Any]:
    """The headers of a route's answers of one status.

    Args:
        handler: the route's.
        status: of the answer.
        errors: that have this status.
    """
    names = [*_EVERY]
    if tell_allowance in (handler.guards or ()) and status != InvalidApiKey.status:
        names += [*_RATE_LIMIT, *TOKENS]
    if any(issubclass(error, (Overloaded, Unavailable)) for error in errors):
        names += _RETRY
    return {name: {"$ref": _REFERENCE + name} for name in names}
