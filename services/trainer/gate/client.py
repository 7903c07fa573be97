"""The judge's OpenAI client: chat answers and token scores from a running server, over its private socket or a URL."""

import asyncio
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import msgspec

from services.registry.layout import split_model_name
from services.trainer.gate.settings import Judging

_POLL_SECONDS = 0.25
_BUSY_SECONDS = 1.0


class JudgingFailed(Exception):
    """The candidate could not be judged: no verdict was reached; the message says the remedy."""


class VersionNotServed(Exception):
    """The server refused the version, or did not load it in time; the message is the server's reason."""


class Answered(msgspec.Struct, frozen=True):
    """One answer.

    Attributes:
        stopped: it ended by itself, not at the limit.
        tokens: of the answer.
        seconds: from the request to the last token.
    """

    text: str
    stopped: bool
    tokens: int
    seconds: float


class JudgeClient:
    """Asks one server, at temperature 0; an async context manager."""

    def __init__(self, settings: Judging, socket: Path) -> None:
        """Ask the server at ``settings.server``; ``socket`` is what "socket" means there."""
        self._settings = settings
        private = settings.server == "socket"
        self._where = str(socket) if private else settings.server
        self._http = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=str(socket)) if private else None,
            base_url="http://server" if private else settings.server.rstrip("/"),
            timeout=settings.request_seconds,
            trust_env=False,  # no proxy stands between the judge and its server
        )
        self._places = asyncio.Semaphore(settings.concurrency)

    async def __aenter__(self) -> Self:
        """Open it."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def base_name(self) -> str:
        """The name of the base model that the server holds.

        Raises:
            JudgingFailed: no server answers.
        """
        return str((await self._readiness())["base"])

    async def wait_until_served(self, model: str) -> None:
        """Wait until the pinned name ``model`` is served.

        Raises:
            VersionNotServed: the server refused the version, or did not load it in time.
            JudgingFailed: no server answers.
        """
        deadline = time.monotonic() + self._settings.load_seconds
        while True:
            if await self.serves(model):
                return
            readiness = await self._readiness()
            for adapter in (readiness.get("adapters") or {}).values():
                if reason := adapter["refused"].get(model):
                    raise VersionNotServed(f"the server refused {model}: {reason}")
            if time.monotonic() > deadline:
                raise VersionNotServed(
                    f"the server did not load {model} within gate.load_seconds = {self._settings.load_seconds:g}; `make status` says what it does"
                )
            await asyncio.sleep(_POLL_SECONDS)

    async def wait_until_in_service(self, adapter: str, model: str) -> None:
        """Wait until the alias ``adapter`` leads to ``model``.

        Raises:
            VersionNotServed: it does not, in ``load_seconds``.
            JudgingFailed: no server answers.
        """
        deadline = time.monotonic() + self._settings.load_seconds
        while ((await self._readiness()).get("adapters") or {}).get(adapter, {}).get("serving") != model:
            if time.monotonic() > deadline:
                raise VersionNotServed(
                    f"{adapter} does not lead to {model} within gate.load_seconds = {self._settings.load_seconds:g}; `make status` says why"
                )
            await asyncio.sleep(_POLL_SECONDS)

    async def loaded(self, adapter: str) -> set[int]:
        """The versions of ``adapter`` that the server holds.

        Raises:
            JudgingFailed: no server answers.
        """
        known = ((await self._readiness()).get("adapters") or {}).get(adapter)
        names: list[str] = [*known["loaded"], *filter(None, [known["serving"]])] if known else []
        return {number for _, number in map(split_model_name, names) if number is not None}

    async def serves(self, model: str) -> bool:
        """Whether ``model`` is served now.

        Raises:
            JudgingFailed: no server answers.
        """
        return (await self._send("GET", f"/v1/models/{model}")).status_code == httpx.codes.OK

    async def answer(self, model: str, messages: list[dict[str, str]], max_tokens: int) -> Answered:
        """The likeliest answer to a conversation.

        Raises:
            JudgingFailed: the server refused the request or went away.
        """
        body = {"model": model, "messages": messages, "max_tokens": max_tokens, "temperature": 0}
        async with self._places:
            begun = time.monotonic()
            reply = await self._post("/v1/chat/completions", body)
            seconds = time.monotonic() - begun
        [choice] = reply["choices"]
        return Answered(
            text=choice["message"]["content"] or "",
            stopped=choice["finish_reason"] == "stop",
            tokens=reply["usage"]["completion_tokens"],
            seconds=seconds,
        )

    async def score(self, model: str, token_ids: list[int]) -> list[float]:
        """Natural log of p(token[i+1] | token[:i+1]), one less than there are tokens.

        Raises:
            JudgingFailed: as ``answer``.
        """
        body = {"model": model, "prompt": token_ids, "echo": True, "logprobs": 0, "max_tokens": 1, "temperature": 0}
        async with self._places:
            reply = await self._post("/v1/completions", body)
        values: list[float] = reply["choices"][0]["logprobs"]["token_logprobs"]
        return values[1 : len(token_ids)]

    async def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Ask; where the server is busy with others' requests, ask again: the gate has time, apps have not."""
        deadline = time.monotonic() + self._settings.request_seconds
        while True:
            response = await self._send("POST", path, body)
            if response.status_code != httpx.codes.TOO_MANY_REQUESTS or time.monotonic() > deadline:
                break
            await asyncio.sleep(_BUSY_SECONDS)
        if response.status_code != httpx.codes.OK:
            raise JudgingFailed(f"the server answered {response.status_code} on {path}: {_message(response)}")
        return msgspec.json.decode(response.content, type=dict[str, Any])

    async def _readiness(self) -> dict[str, Any]:
        response = await self._send("GET", "/readyz")
        try:
            readiness = msgspec.json.decode(response.content, type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise JudgingFailed(f"what answers at {self._where} is not this project's server") from error
        if response.status_code != httpx.codes.OK or "base" not in readiness:
            raise JudgingFailed(
                f"the server at {self._where} is {readiness.get('status', 'not ready')}; wait until `make status` says ready"
            )
        return readiness

    async def _send(self, method: str, path: str, body: dict[str, Any] | None = None) -> httpx.Response:
        content = None if body is None else msgspec.json.encode(body)
        try:
            return await self._http.request(method, path, content=content, headers={"content-type": "application/json"})
        except httpx.HTTPError as error:
            raise JudgingFailed(
                f"no server answers at {self._where} ({type(error).__name__}); start it with `make up`"
            ) from error


def _message(response: httpx.Response) -> str:
    try:
        return str(msgspec.json.decode(response.content)["error"]["message"])
    except (msgspec.DecodeError, KeyError, TypeError):
        return "no reason given"
