"""The official client on the application itself, without a socket; it validates every answer strictly."""

from typing import Any

import httpx
import openai

from tests.unit.server.client import HasApp


def http(server: HasApp) -> httpx.AsyncClient:
    """HTTP without a socket; it needs no closing, as it holds no connection."""
    app: Any = server.app  # Litestar has types of its own for what httpx calls by dictionaries
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://whetstone")


def sdk(server: HasApp, key: str = "none") -> openai.AsyncOpenAI:
    """A client of the application."""
    client: Any = http(server)  # the SDK's types name httpx's fork; it takes either
    return openai.AsyncOpenAI(
        base_url="http://whetstone/v1",
        api_key=key,
        max_retries=0,
        http_client=client,
        _strict_response_validation=True,
    )
