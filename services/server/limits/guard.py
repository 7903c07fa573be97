"""The guard that counts requests: before a byte of the body is read, on the route that was matched."""

from litestar.handlers import BaseRouteHandler

from services.server.auth import Connection
from services.server.services import Services


async def within_limits(connection: Connection, _: BaseRouteHandler) -> None:
    """Guard of generating routes, after the key's and ``tell_allowance``: count the request, or answer 429.

    A key with limits is told these; without one on its requests it is told the server's, as everyone.
    """
    services: Services = connection.app.state.services
    state = connection.scope["state"]
    services.usage.admit(state["key"])
    account = state["account"] = services.accounts.of(state["key"])
    if account.requests is not None:
        state["allowance"] = account.requests
    if account.tokens is not None:
        state["token_allowance"] = account.tokens
    account.admit()
