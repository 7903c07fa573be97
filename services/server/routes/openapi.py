"""``GET /openapi.json``: what is served, for people's tools."""

from litestar import Response, get
from litestar.datastructures import State


@get("/openapi.json")
async def openapi_json(state: State) -> Response[bytes]:
    """This document; the same for everyone, and nothing in it leads out of the house."""
    return Response(state.openapi, media_type="application/json")
