"""Routes that answer from the engine: asked thousands of times a second."""

from litestar.connection import ASGIConnection
from litestar.handlers import HTTPRouteHandler


class Generating(HTTPRouteHandler):
    """A handler whose guards get it itself. Litestar makes each a copy of it, which takes longer than what they do."""

    async def authorize_connection(self, connection: ASGIConnection) -> None:  # type: ignore[type-arg]  # as in Litestar
        """Ask the route's guards, in their order."""
        for guard in self.resolve_guards():
            await guard(connection, self)  # type: ignore[misc]  # all are coroutines by now
