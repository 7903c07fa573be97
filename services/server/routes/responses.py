"""``/v1/responses``: answers to inputs, and those of them that are stored, for the key that asked."""

from typing import Any

from litestar import Response, delete, get
from litestar.datastructures import State
from litestar.params import FromPath, FromQuery

from services.server.answer import Answer
from services.server.auth import require_key
from services.server.errors import BadRequest
from services.server.headers import tell_allowance
from services.server.limits.guard import within_limits
from services.server.requests import ServerRequest
from services.server.responses.answering import answer_response
from services.server.responses.schema import LOGPROBS
from services.server.routes.generating import Generating
from services.server.tuning.house import bounded, ordered
from services.server.tuning.views import Deleted, Listing

MOST_ITEMS = 100


@Generating(
    "/v1/responses",
    http_method="POST",
    guards=[require_key, tell_allowance, within_limits],
    role="inference",
    status_code=200,
)
async def create_response(request: ServerRequest) -> Answer:
    """Answer an input, plain or streamed."""
    return await answer_response(request)


@get("/v1/responses/{response_id:str}", guards=[require_key], role="inference")
async def get_response(
    request: ServerRequest, state: State, response_id: FromPath[str], stream: FromQuery[bool | None] = None
) -> Response[bytes]:
    """One of the caller's stored responses."""
    if stream:
        raise BadRequest(
            "'stream' is not supported by this server for a stored response; leave it out.",
            param="stream",
            code="unsupported_parameter",
        )
    included = [value for name in ("include", "include[]") for value in request.query_params.getall(name, [])]
    if LOGPROBS in included:
        raise BadRequest(
            f"'include': {LOGPROBS} are not stored; take them from the answer itself.",
            param="include",
            code="unsupported_value",
        )
    answer = await state.services.stored.answer(request.scope["state"]["key"], response_id)
    return Response(answer, media_type="application/json")


@delete("/v1/responses/{response_id:str}", guards=[require_key], role="inference", status_code=200)
async def delete_response(request: ServerRequest, state: State, response_id: FromPath[str]) -> Deleted:
    """Forget one of the caller's stored responses."""
    await state.services.stored.delete(request.scope["state"]["key"], response_id)
    return Deleted(id=response_id, object="response")


@get("/v1/responses/{response_id:str}/input_items", guards=[require_key], role="inference")
async def list_input_items(
    request: ServerRequest,
    state: State,
    response_id: FromPath[str],
    after: FromQuery[str | None] = None,
    limit: FromQuery[int | None] = None,
    order: FromQuery[str] = "desc",
) -> Listing[dict[str, Any]]:
    """What one of the caller's stored responses answered, newest first."""
    oldest_first, limit = ordered(order) == "asc", bounded(limit, "limit", 1, MOST_ITEMS, default=20)
    items = await state.services.stored.input_items(request.scope["state"]["key"], response_id)
    return _page(items if oldest_first else items[::-1], after, limit)


def _page(items: list[dict[str, Any]], after: str | None, limit: int) -> Listing[dict[str, Any]]:
    begin = 0
    if after is not None:
        ids = [item["id"] for item in items]
        if after not in ids:
            raise BadRequest(
                "Invalid 'after': no item of this response has this id.", param="after", code="invalid_value"
            )
        begin = ids.index(after) + 1
    page = items[begin : begin + limit]
    return Listing(
        data=page,
        has_more=len(items) > begin + limit,
        first_id=page[0]["id"] if page else None,
        last_id=page[-1]["id"] if page else None,
    )
