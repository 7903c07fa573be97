"""``POST /v1/responses``; and ``/v1/responses/{id}``, which finds nothing, because nothing is stored."""

from litestar import delete, get, post
from litestar.params import FromPath

from services.server.answer import Answer
from services.server.auth import require_key
from services.server.errors import ResponseNotFound
from services.server.headers import tell_allowance
from services.server.requests import ServerRequest
from services.server.responses.answering import answer_response


@post("/v1/responses", guards=[require_key, tell_allowance], status_code=200)
async def create_response(request: ServerRequest) -> Answer:
    """Answer an input, plain or streamed."""
    return await answer_response(request)


@get("/v1/responses/{response_id:str}", guards=[require_key])
async def get_response(response_id: FromPath[str]) -> None:
    """Say that there is no such response."""
    raise _not_found(response_id)


@delete("/v1/responses/{response_id:str}", guards=[require_key])
async def delete_response(response_id: FromPath[str]) -> None:
    """Say that there is no such response."""
    raise _not_found(response_id)


def _not_found(response_id: str) -> ResponseNotFound:
    return ResponseNotFound(
        f"Response with id '{response_id[:100]}' not found: this server stores no responses. Keep what you were answered, "
        "and send the whole conversation as 'input'.",
        param="response_id",
    )
