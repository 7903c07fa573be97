"""``POST /v1/embeddings``."""

from litestar import post

from services.server.auth import require_key
from services.server.embeddings import refuse_embeddings
from services.server.requests import ServerRequest


@post("/v1/embeddings", guards=[require_key], role="inference", status_code=200)
async def embeddings(request: ServerRequest) -> None:
    """Say that the model cannot embed."""
    await refuse_embeddings(request)
