"""What the query of a request may be, on every route."""

from services.server.errors import BadRequest
from services.server.requests import ServerRequest

_LISTS = {
    "include",
    "include[]",
}  # the only list that OpenAI has in a query of what is served; its SDKs send the second
_LONGEST_NAME = 80


async def refuse_repeated(request: ServerRequest) -> None:
    """Before each route's own work, after its guards: a parameter comes once, unless it is a list.

    Litestar takes the last value, and looks at no other. (A coroutine, for it would run a plain function in a thread.)

    Raises:
        BadRequest: one comes again; the message has its name, and none of its values.
    """
    if not request.scope["query_string"]:
        return
    seen: set[str] = set()
    for name, _ in request.query_params.items():  # noqa: PERF102 - a mapping's keys are told once
        if name in seen and name not in _LISTS:
            named = name[:_LONGEST_NAME]
            raise BadRequest(f"Invalid '{named}': give it once.", param=named, code="invalid_value")
        seen.add(name)
