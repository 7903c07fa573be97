"""``GET /metrics``: Prometheus text, the server's own and vLLM's."""

from litestar import Response, get
from litestar.datastructures import State

from services.server.requests import ServerRequest
from services.server.services import Services

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@get("/metrics")
async def metrics(request: ServerRequest, state: State) -> Response[bytes]:
    """For callers on this machine, or with a key whose roles include ``admin``."""
    services: Services = state.services
    services.doorkeeper.require_admin(request)
    services.metrics.in_flight.set(services.admission.in_flight)
    text = services.metrics.text()
    if services.model is not None and services.lifecycle.failure is None:
        text += services.model.engine.metrics()
    return Response(text, media_type=CONTENT_TYPE)
