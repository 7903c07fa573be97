"""``POST /v1/chat/completions``."""

from services.server.answer import Answer
from services.server.auth import require_key
from services.server.headers import tell_allowance
from services.server.limits.guard import within_limits
from services.server.requests import ServerRequest, answer_chat
from services.server.routes.generating import Generating


@Generating(
    "/v1/chat/completions",
    http_method="POST",
    guards=[require_key, tell_allowance, within_limits],
    role="inference",
    private_socket=True,
    status_code=200,
)
async def chat_completions(request: ServerRequest) -> Answer:
    """Answer a conversation, plain or streamed."""
    return await answer_chat(request)
