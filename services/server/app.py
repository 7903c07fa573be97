"""The Litestar application: a closed list of routes, one place where errors become answers."""

from typing import Any

import msgspec
import structlog
from litestar import Litestar, Request, Response
from litestar.datastructures import State
from litestar.exceptions import HTTPException, ValidationException
from litestar.types import ASGIApp

from services.common.traces import trace_of
from services.server.auth import only_what_the_gate_needs
from services.server.errors import (
    SERVER_FAULT,
    BadRequest,
    BodyTooLarge,
    ErrorAnswer,
    MethodNotAllowed,
    RouteNotFound,
    ServerError,
    UnsupportedMediaType,
    unexpected,
)
from services.server.headers import AnswerHeaders
from services.server.openapi.document import document
from services.server.query import refuse_repeated
from services.server.routes import ROUTES
from services.server.services import Services

log = structlog.get_logger(__name__)


def create_app(services: Services) -> ASGIApp:
    """The application on these services."""
    litestar = Litestar(
        route_handlers=ROUTES,
        guards=[only_what_the_gate_needs],
        before_request=refuse_repeated,
        state=State({"services": services}),
        exception_handlers={Exception: _answer_error},
        request_max_body_size=services.limits.max_body_bytes,
        openapi_config=None,  # its pages load scripts from elsewhere, and its schemas are not what decodes; see openapi/
        logging_config=None,
        debug=False,
    )
    litestar.state.openapi = msgspec.json.encode(document(litestar.routes, services.limits))
    return AnswerHeaders(litestar, services.lifecycle)


def _answer_error(request: Request[Any, Any, Any], error: Exception) -> Response[ErrorAnswer]:
    answer = _translate(request, error)
    services: Services = request.app.state.services
    services.metrics.refusals.labels(status=str(answer.status), code=answer.code or "").inc()
    headers = {name.decode(): value.decode() for name, value in answer.headers()}
    return Response(answer.body(), status_code=answer.status, headers=headers, media_type="application/json")


def _translate(request: Request[Any, Any, Any], error: Exception) -> ServerError:
    if isinstance(error, ServerError):
        return error
    if isinstance(error, ValidationException):
        return _invalid_parameter(error)
    if isinstance(error, HTTPException) and error.status_code < SERVER_FAULT:
        where = f"{request.method} {request.url.path[:200]}"
        known: dict[int, ServerError] = {
            404: RouteNotFound(f"Invalid URL ({where})"),
            405: MethodNotAllowed(f"Not allowed: {where}", allow=(error.headers or {}).get("allow", "")),
            413: BodyTooLarge("The body is over the server's limit."),
            415: UnsupportedMediaType("Send the body as 'Content-Type: application/json'."),
        }
        return known.get(error.status_code) or BadRequest(error.detail)
    log.error("request failed", cause=type(error).__name__, trace=trace_of(error))
    return unexpected()


def _invalid_parameter(error: ValidationException) -> BadRequest:
    """A query's value of the wrong type; Litestar's own sentence repeats the whole query."""
    wrong: dict[str, str] = next(iter(error.extra or ()), {})  # type: ignore[arg-type]  # a list of these, here
    param = wrong.get("key")
    return BadRequest(f"Invalid '{param}': {wrong.get('message')}.", param=param, code="invalid_type")
