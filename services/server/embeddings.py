"""``POST /v1/embeddings``: read and checked like every request, then refused, because no model served here embeds."""

from typing import Annotated, Any, Literal, NoReturn

import msgspec

from services.server.auth import authorize_model
from services.server.body import read_body
from services.server.chat.schema import prompts_of
from services.server.decode import decode
from services.server.errors import BadRequest
from services.server.requests import ServerRequest, serving


class EmbeddingsRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body."""

    model: str
    input: str | list[Any]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, msgspec.Meta(ge=1)] | None = None
    user: str | None = None


_decoder = msgspec.json.Decoder(EmbeddingsRequest)


async def refuse_embeddings(request: ServerRequest) -> NoReturn:
    """Say what is wrong with the request, and be it the model.

    Raises:
        ServerError: always.
    """
    services, _ = serving(request)
    asked = decode(await read_body(request, services), _decoder)
    prompts_of(asked.input, most=services.limits.max_prompts, param="input")
    authorize_model(request.scope["state"]["key"], asked.model)
    services.catalogue.find(asked.model)
    raise BadRequest(
        f"The model '{asked.model[:200]}' generates text and cannot embed: this server serves chat completions, completions and "
        "responses. Ask a server with an embedding model.",
        param="model",
        code="unsupported_model",
    )
