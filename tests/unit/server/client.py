"""A client that speaks ASGI directly to the application, without a socket."""

import asyncio
import json
from typing import Any, Protocol
from urllib.parse import unquote

from litestar.types import ASGIApp


class HasApp(Protocol):
    """Whatever holds the application."""

    app: ASGIApp


class Client:
    """One request, spoken in ASGI; ``leave`` hangs up.

    Args:
        slow: the body is not sent before ``send_body``.
    """

    def __init__(
        self,
        server: HasApp,
        path: str,
        body: Any = None,
        *,
        method: str | None = None,
        headers: dict[str, str] | None = None,
        address: str = "127.0.0.1",
        slow: bool = False,
    ) -> None:
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        method = method or ("GET" if body is None else "POST")
        sent = {"content-type": "application/json", "content-length": str(len(raw)), **(headers or {})}
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote(path.partition("?")[0]),
            "raw_path": path.partition("?")[0].encode(),
            "query_string": path.partition("?")[2].encode(),
            "root_path": "",
            "headers": [(name.encode(), value.encode()) for name, value in sent.items()],
            "client": (address, 1),
            "server": ("127.0.0.1", 80),
        }
        self._raw = raw
        self._may_send = asyncio.Event()
        if not slow:
            self._may_send.set()
        self._sent = False
        self._gone = asyncio.Event()
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.ended = False
        self.task = asyncio.create_task(self._run(server.app, scope))

    async def _run(self, app: Any, scope: dict[str, Any]) -> None:
        await app(scope, self._receive, self._send)

    async def _receive(self) -> dict[str, Any]:
        if not self._sent:
            await self._may_send.wait()
        if not self._sent and not self._gone.is_set():
            self._sent = True
            return {"type": "http.request", "body": self._raw, "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        await asyncio.sleep(0)
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            self.body += message.get("body", b"")
            self.ended = not message.get("more_body", False)

    def send_body(self) -> None:
        """Send the body, where the client is slow."""
        self._may_send.set()

    def leave(self) -> None:
        """Hang up."""
        self._gone.set()
        self._may_send.set()

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """OpenAI's error object; asserts its four keys."""
        error: dict[str, Any] = self.json["error"]
        assert set(error) == {"message", "type", "param", "code"}
        return error

    @property
    def events(self) -> list[Any]:
        """The server-sent events; ``[DONE]`` as a string."""
        lines = self.body.decode().split("\n\n")
        assert lines.pop() == ""
        assert all(line.startswith("data: ") for line in lines)
        return [line[6:] if line == "data: [DONE]" else json.loads(line[6:]) for line in lines]

    @property
    def text(self) -> str:
        """The first answer's text, plain or streamed."""
        if self.headers["content-type"].startswith("application/json"):
            return str(self.json["choices"][0]["message"]["content"])
        deltas = [event["choices"][0]["delta"] for event in self.events if event != "[DONE]" and event["choices"]]
        return "".join(delta.get("content", "") for delta in deltas)
