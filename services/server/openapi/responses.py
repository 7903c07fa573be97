"""A route's answers in the document: its own forms, and an error answer for every status that it may have."""

from collections.abc import Callable
from inspect import cleandoc
from typing import Any

from litestar.handlers import HTTPRouteHandler
from litestar.params import QueryParameter

from services.server.auth import require_key
from services.server.errors import (
    BadRequest,
    BodyTooLarge,
    BodyTooSlow,
    ErrorAnswer,
    InvalidApiKey,
    Overloaded,
    RequestsLimited,
    RequestTooLarge,
    RoleMissing,
    ServerError,
    TokensLimited,
    UnsupportedMediaType,
)
from services.server.headers import tell_allowance
from services.server.limits.guard import within_limits
from services.server.openapi.headers import headers_of
from services.server.openapi.operation import DONE, EVENTS, Operation, Reply, Stream

SchemaOf = Callable[[Any], dict[str, Any]]


def responses(handler: HTTPRouteHandler, operation: Operation, schema_of: SchemaOf) -> dict[str, Any]:
    """Status -> response.

    Args:
        handler: the route's.
        operation: its description.
        schema_of: the schema of a type.
    """
    found: dict[int, dict[str, Any]] = {}
    for reply in operation.replies:
        response = found.setdefault(reply.status or handler.status_code, {"description": "", "content": {}})
        response["description"] = f"{response['description']} {reply.description}".strip()
        response["content"][reply.media_type] = _media(reply, schema_of)
    if operation.stream is not None:
        response = found[handler.status_code]
        response["description"] += f" With `stream` as server-sent events: {operation.stream.description}"
        response["content"][EVENTS] = {"itemSchema": _event(operation.stream, schema_of)}
    errors: dict[int, list[type[ServerError]]] = {}
    for error in errors_of(handler, operation):
        errors.setdefault(error.status, []).append(error)
    for status, kinds in errors.items():
        description = " ".join(map(_said, kinds))
        content = {"application/json": {"schema": schema_of(ErrorAnswer)}}
        found.setdefault(status, {"description": description, "content": content})
    return {
        str(status): {**found[status], "headers": headers_of(handler, status, errors.get(status, []))}
        for status in sorted(found)
    }


def _said(error: type[ServerError]) -> str:
    said = cleandoc(error.__doc__ or "").partition("\n")[0].partition(";")[0].rstrip(".") + "."
    return said if error.code is None else f"`{error.code}`: {said}"


def errors_of(handler: HTTPRouteHandler, operation: Operation) -> list[type[ServerError]]:
    """Every error that a route may answer with: what its guards, query and body lead to, and its own."""
    guards = handler.guards or ()
    found: set[type[ServerError]] = {ServerError, BadRequest, *operation.errors}  # any query may repeat a parameter
    if require_key in guards:
        found.add(InvalidApiKey)
        if handler.opt["role"] is not None:
            found.add(RoleMissing)
    if tell_allowance in guards:
        found.add(Overloaded)
    if within_limits in guards:
        found |= {RequestsLimited, TokensLimited, RequestTooLarge}
    if operation.body is not None or operation.form is not None:
        found |= {BodyTooSlow, BodyTooLarge, UnsupportedMediaType}
    return sorted(found, key=lambda error: error.__name__)


def queries_of(handler: HTTPRouteHandler) -> dict[str, Any]:
    """The query's parameters and their types; ``null`` in a query is None to Litestar."""
    return {
        name: field.annotation
        for name, field in handler.parsed_fn_signature.parameters.items()
        if isinstance(field.kwarg_definition, QueryParameter)
    }


def _media(reply: Reply, schema_of: SchemaOf) -> dict[str, Any]:
    if reply.schema is None:
        return {"schema": {"type": "string"}}
    return {"schema": schema_of(reply.schema)}


def _event(stream: Stream, schema_of: SchemaOf) -> dict[str, Any]:
    data: list[dict[str, Any]] = [
        {"contentMediaType": "application/json", "contentSchema": schema_of(kind)} for kind in stream.events
    ]
    if stream.done:
        data.append({"const": DONE})
    return {"type": "object", "properties": {"data": {"type": "string", "anyOf": data}}, "required": ["data"]}
