"""The closed list of what is served."""

from services.server.routes.chat import chat_completions
from services.server.routes.completions import completions
from services.server.routes.health import livez, readyz
from services.server.routes.metrics import metrics
from services.server.routes.models import get_model, list_models

ROUTES = (chat_completions, completions, list_models, get_model, livez, readyz, metrics)

__all__ = ["ROUTES"]
