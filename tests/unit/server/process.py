"""``serve`` in this process on real sockets, with the fake engine and the official client."""

import asyncio
import os
import signal
import socket
from pathlib import Path
from typing import Any, Self

import httpx
import openai

from services.server.serve import serve
from tests.unit.server.fakes import BASE, FakeEngine
from tests.unit.server.harness import plan

MESSAGES: Any = [{"role": "user", "content": "hi"}]


def free_port() -> int:
    """A loopback port that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Process:
    """``serve`` as a task, and a client for it; ready inside ``async with``."""

    def __init__(self, root: Path, engine: FakeEngine | None = None, **changes: Any) -> None:
        self.engine = engine or FakeEngine()
        port = free_port()
        self.plan = plan(root, self.engine, port=port, **changes)
        self.url = f"http://127.0.0.1:{port}"
        self.client = openai.AsyncOpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0)
        self.task = asyncio.create_task(serve(self.plan))

    async def __aenter__(self) -> Self:
        await self._ready()
        return self

    async def __aexit__(self, *_: object) -> None:
        if not self.task.done():
            os.kill(os.getpid(), signal.SIGTERM)  # as its supervisor ends it
        await asyncio.gather(self.task, return_exceptions=True)
        await self.client.close()

    async def _ready(self) -> None:
        async with httpx.AsyncClient() as http, asyncio.timeout(5):
            while True:
                try:
                    if (await http.get(f"{self.url}/readyz")).status_code == 200:
                        return
                except httpx.ConnectError:
                    pass
                await asyncio.sleep(0.02)

    async def stream(self, messages: Any = MESSAGES, **fields: Any) -> str:
        chunks = await self.client.chat.completions.create(model=BASE, messages=messages, stream=True, **fields)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks if chunk.choices])
