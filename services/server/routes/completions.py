"""``POST /v1/completions``."""

from services.server.answer import Answer
from services.server.auth import require_key
from services.server.headers import tell_allowance
from services.server.limits.guard import within_limits
from services.server.requests import ServerRequest, answer_completion
from services.server.routes.generating import Generating


@Generating(
    "/v1/completions",
    http_method="POST",
    guards=[require_key, tell_allowance, within_limits],
    role="inference",
    private_socket=True,
    status_code=200,
)
async def completions(request: ServerRequest) -> Answer:
    """Continue texts, plain or streamed."""
    return await answer_completion(request)
