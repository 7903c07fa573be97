"""The JSON body of a request, within the limits of size, time and depth."""

from typing import Any

from litestar import Request
from litestar.types import Receive

from services.server.decode import refuse_deep
from services.server.errors import BROKEN_BODY, BadRequest, BodyTooLarge, BodyTooSlow, UnsupportedMediaType
from services.server.headers import given
from services.server.patience import Within
from services.server.services import Services


async def read_body(request: Request[Any, Any, Any], services: Services) -> bytes:
    """The body.

    Raises:
        UnsupportedMediaType: it is compressed, or not JSON.
        BodyTooLarge: over ``limits.max_body_bytes``.
        BodyTooSlow: not there within ``limits.body_seconds``.
        BadRequest: it broke off, or is nested deeper than ``limits.max_json_depth``.
        Unavailable: the server began to stop meanwhile.
    """
    kind = given(request.scope, b"content-type") or b""
    if kind.partition(b";")[0].strip().lower() != b"application/json":
        raise UnsupportedMediaType("Send the body as 'Content-Type: application/json'.")
    encoding = given(request.scope, b"content-encoding")
    if encoding is not None and encoding.lower() != b"identity":
        raise UnsupportedMediaType("Send the body without a Content-Encoding.")
    limits = services.limits
    try:
        with Within(services.patience_for_bodies):
            body = await _received(request.receive, given(request.scope, b"content-length"), limits.max_body_bytes)
    except TimeoutError:
        raise BodyTooSlow(f"The body did not arrive within {limits.body_seconds:g} seconds.") from None
    # The drain does not wait for a request that has no body yet: it may be over, and the engine closing.
    services.lifecycle.require_serving()
    refuse_deep(body, limits.max_json_depth)
    return body


async def _received(receive: Receive, announced: bytes | None, most: int) -> bytes:
    """All pieces together; Litestar's own way, which knows more kinds of bodies, takes a multiple of the time."""
    if announced is not None and not announced.isdigit():
        raise BadRequest(BROKEN_BODY)
    length = None if announced is None else int(announced)
    if length is not None and length > most:
        raise _too_large(most)
    pieces, room, more = [], most, True
    while more and most - room != length:  # that a whole body has ended, Granian tells in a message of its own
        event: Any = await receive()
        if event["type"] == "http.disconnect":
            raise BadRequest(BROKEN_BODY)
        pieces.append(event["body"])
        room -= len(event["body"])
        if room < 0:
            raise _too_large(most)
        more = event.get("more_body", False)
    return b"".join(pieces)


def _too_large(most: int) -> BodyTooLarge:
    return BodyTooLarge(f"The body is over {most} bytes.")
