"""Builds the document: from each route its path, method, docstring, guards and query; from ``OPERATIONS`` the rest."""

from collections.abc import Iterable, Iterator
from inspect import cleandoc
from typing import Any

import msgspec
from litestar.handlers import HTTPRouteHandler
from litestar.routes import HTTPRoute

from services.server.auth import require_key
from services.server.errors import ErrorAnswer
from services.server.openapi.constraints import Keywords, constraints
from services.server.openapi.headers import HEADERS
from services.server.openapi.operation import Operation
from services.server.openapi.operations import OPERATIONS
from services.server.openapi.responses import queries_of, responses
from services.server.settings import Limits

OPENAPI = "3.2.0"  # the first that describes the events of a stream
API = "1"  # as the paths say: /v1
BEARER = "bearer"
_REFERENCE = "#/components/schemas/{name}"


def document(routes: Iterable[Any], limits: Limits) -> dict[str, Any]:
    """The OpenAPI document of an application.

    Args:
        routes: Litestar's, all of them.
        limits: of the settings; the document states them.

    Raises:
        LookupError: a route has no description.
    """
    handlers = list(_handlers(routes))
    schemas = _Schemas(_types(handlers), limits)
    paths: dict[str, dict[str, Any]] = {}
    for route, method, handler in handlers:
        paths.setdefault(route.path_format, {})[method.lower()] = _operation(route, handler, schemas)
    return {
        "openapi": OPENAPI,
        "info": {
            "title": "Whetstone",
            "version": API,
            "description": "OpenAI's API, as far as it is served here. Every route is named; nothing else is answered.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "headers": HEADERS,
            "securitySchemes": {BEARER: {"type": "http", "scheme": "bearer", "description": "A key of `make key`."}},
        },
    }


class _Schemas:
    """Types as JSON Schema, by msgspec, which decodes them."""

    def __init__(self, types: list[Any], limits: Limits) -> None:
        schemas, self.components = msgspec.json.schema_components(types, ref_template=_REFERENCE)
        self._of = list(zip(types, schemas, strict=True))
        for name, properties in constraints(limits).items():
            for field, keywords in properties.items():
                self.components[name]["properties"][field].update(keywords)

    def of(self, kind: Any) -> Keywords:
        return next(schema for known, schema in self._of if known == kind)


def describe(handler: HTTPRouteHandler) -> Operation:
    """A handler's description.

    Raises:
        LookupError: it has none.
    """
    try:
        return OPERATIONS[handler.handler_name]
    except KeyError:
        raise LookupError(
            f"{handler.handler_name}: describe this route in services/server/openapi/operations.py"
        ) from None


def _handlers(routes: Iterable[Any]) -> Iterator[tuple[HTTPRoute, str, HTTPRouteHandler]]:
    for route in routes:
        for method, (handler, _) in route.route_handler_map.items():
            if method != "OPTIONS":  # Litestar's own, on every path
                yield route, method, handler


def _types(handlers: list[tuple[HTTPRoute, str, HTTPRouteHandler]]) -> list[Any]:
    types: list[Any] = [ErrorAnswer]
    for _, _, handler in handlers:
        operation = describe(handler)
        types += operation.stream.events if operation.stream is not None else ()
        types += [reply.schema for reply in operation.replies if reply.schema is not None]
        types += [
            kind for kind in (operation.body, *operation.parts, *queries_of(handler).values()) if kind is not None
        ]
    return types


def _operation(route: HTTPRoute, handler: HTTPRouteHandler, schemas: _Schemas) -> dict[str, Any]:
    operation = describe(handler)
    summary, _, description = cleandoc(handler.fn.__doc__ or "").partition("\n\n")
    described: dict[str, Any] = {
        "operationId": handler.handler_name,
        "summary": summary,
        "description": description,
        "parameters": _parameters(route, handler, operation, schemas),
        "requestBody": _body(operation, schemas),
        "responses": responses(handler, operation, schemas.of),
        "security": _security(handler, operation),
    }
    return {name: value for name, value in described.items() if value}


def _body(operation: Operation, schemas: _Schemas) -> dict[str, Any]:
    if operation.body is not None:
        return {"required": True, "content": {"application/json": {"schema": schemas.of(operation.body)}}}
    if operation.form is not None:
        return {"required": True, "content": {"multipart/form-data": {"schema": operation.form}}}
    return {}


def _security(handler: HTTPRouteHandler, operation: Operation) -> list[dict[str, Any]]:
    if operation.optional_key:
        return [{}, {BEARER: []}]
    return [{BEARER: []}] if require_key in (handler.guards or ()) else []


def _parameters(
    route: HTTPRoute, handler: HTTPRouteHandler, operation: Operation, schemas: _Schemas
) -> list[dict[str, Any]]:
    found = [("path", name, {"type": "string", "minLength": 1}) for name in route.path_parameters]
    found += [("query", name, schemas.of(kind)) for name, kind in queries_of(handler).items()]
    return [
        {
            "name": name,
            "in": where,
            "required": where == "path",
            "description": operation.parameters[name].description,
            "schema": {**schema, **operation.parameters[name].keywords},
        }
        for where, name, schema in found
    ]
