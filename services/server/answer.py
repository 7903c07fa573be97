"""The ASGI response of a generation: streams or collects, watches the client, ends in an error the client can read.

The client is watched through ``receive``: when it goes, the request's task is cancelled and the engine aborts, whether the
answer is streamed or not. An error before the first byte is an HTTP error; one after it is an error event, which ends the
stream.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import structlog
from litestar.types import Receive, ReceiveMessage, Scope, Send

from services.common.traces import trace_of
from services.server.begun import begun, first_step
from services.server.chat.usage import Usage
from services.server.engine.protocol import Delta, EngineBusy, EngineDead, EngineError, RequestRefused
from services.server.errors import SERVER_FAULT, BadRequest, ServerError, Unavailable, unexpected
from services.server.generation import Generation
from services.server.writers import Frames, Keeper, Whole

log = structlog.get_logger(__name__)

JSON_HEADERS = [(b"content-type", b"application/json")]
EVENT_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]

Deltas = AsyncGenerator[list[Delta], None]
Rename = Callable[[ServerError], ServerError]


class Answer:
    """An ASGI application that answers one request and then closes its generation; see its two kinds below.

    Args:
        generation: open.
        deltas: of the generation, not begun yet.
        rename: puts an error into the terms of the API that was asked, where these are not chat's.
        keeper: of the answer, where it is to be kept.
    """

    def __init__(
        self, generation: Generation, deltas: Deltas, *, rename: Rename | None = None, keeper: Keeper | None = None
    ) -> None:
        self._generation = generation
        self._deltas = deltas
        self._rename = rename
        self._keeper = keeper
        self._started = False
        self._client_gone = False
        self._work: asyncio.Task[None]
        self._receive: Receive
        # From the client, of whom nothing but its leaving is expected.
        self._message: asyncio.Future[ReceiveMessage] | None = None

    async def _run(self, send: Send) -> None:
        raise NotImplementedError

    async def _failed(self, _: ServerError) -> bytes:
        """What tells the client of an error after the first byte; a plain answer is complete by then."""
        return b""

    def _cease(self) -> None:
        """Nothing is written from here on."""

    async def _usage(self) -> Usage:
        """What the whole answer consumed, once it is kept; its place is free before the client knows that it is whole."""
        usage = self._generation.tally.usage()
        if self._keeper is not None:
            await self._keeper.ended(usage)
        self._generation.give_back()
        return usage

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer.

        Raises:
            ServerError: before the first byte of an answer; the app's error handler writes it.
        """
        del scope
        self._work = asyncio.current_task()  # type: ignore[assignment]  # an ASGI server runs it in one
        self._receive = receive
        try:
            self._generation.runs_in(self._work)
            rest = first_step(self._run(send))
            if rest is not None:
                self._watch()  # until here nobody could be seen to leave: the event loop did not turn
                await rest
        except BaseException as cause:  # noqa: BLE001 - a cancellation, too, has an outcome; what has none is raised again
            self._leave()  # there is nothing left to cancel
            await self._settle(cause, send)
        finally:
            self._leave()
            self._cease()
            self._generation.close()

    def _watch(self) -> None:
        """Cancel the work when the client goes, until ``_leave``. Granian's own future tells it, without a task of its own."""
        self._message = asyncio.ensure_future(self._receive())
        self._message.add_done_callback(self._heard)

    def _heard(self, message: "asyncio.Future[ReceiveMessage]") -> None:
        if message is not self._message:
            return
        if message.result()["type"] == "http.disconnect":
            self._client_gone = True
            self._work.cancel()
        else:
            self._watch()

    def _leave(self) -> None:
        """Watch no more."""
        message, self._message = self._message, None
        if message is not None:
            message.cancel()

    async def _settle(self, cause: BaseException, send: Send) -> None:
        """Turn the way the work ended into an outcome, and tell the client unless it left."""
        generation = self._generation
        if isinstance(cause, asyncio.CancelledError):
            if not self._client_gone and generation.interruption is None:
                raise cause  # neither the client nor the server's end: whoever cancelled the task wants it to end
            self._work.uncancel()
        if self._client_gone:  # an error may be that of a closed connection
            generation.outcome = "client_gone"
            return
        if generation.interruption is not None:
            error: ServerError = generation.interruption
        else:
            if not isinstance(cause, Exception):
                raise cause
            error = translate(cause, generation.retry_seconds)
            if self._rename is not None:
                error = self._rename(error)
            if error.status >= SERVER_FAULT:
                log.error("request failed", cause=type(cause).__name__, trace=trace_of(cause))
        generation.outcome = error.code or "bad_request"
        generation.failed = error.status == SERVER_FAULT  # 503: stopping, or an engine that died under everyone
        if not self._started:
            raise error
        generation.give_back()  # a client that does not read may keep the rest waiting
        await send({"type": "http.response.body", "body": await self._failed(error), "more_body": False})


class StreamedAnswer(Answer):
    """Server-sent events, one write per delta of the engine, in the engine's step where the client keeps up (docs/decisions/0094).

    Args:
        frames: makes the events.
    """

    def __init__(
        self,
        generation: Generation,
        deltas: Deltas,
        frames: Frames,
        *,
        rename: Rename | None = None,
        keeper: Keeper | None = None,
    ) -> None:
        super().__init__(generation, deltas, rename=rename, keeper=keeper)
        self._frames = frames
        self._send: Send
        self._unsent: asyncio.Future[None] | None = None  # what is left of a write that waits for the client

    async def _run(self, send: Send) -> None:
        frames = self._frames
        self._send = send
        async with aclosing(self._deltas) as batches:
            async for batch in batches:
                await self._sent()
                events = [] if self._started else [frames.begin()]
                events += [frames.delta(delta) for delta in batch]
                if not self._started:
                    # Only now is it sure that the engine took the request: the status can still be an error before.
                    self._started = True
                    await send({"type": "http.response.start", "status": 200, "headers": EVENT_HEADERS})
                if self._generation.whole:
                    events.append(frames.end(await self._usage()))
                body = b"".join(events)
                if body:
                    more = not self._generation.whole
                    await send({"type": "http.response.body", "body": body, "more_body": more})
                self._generation.take = self._write

    def _write(self, delta: Delta) -> bool:
        """Write a delta in the engine's step, unless the client still makes an earlier one wait."""
        if self._unsent is not None:
            if not self._unsent.done():
                return False
            self._unsent.result()
        if frame := self._frames.delta(delta):
            self._unsent = begun(self._send({"type": "http.response.body", "body": frame, "more_body": True}))
        return True

    async def _sent(self) -> None:
        if self._unsent is not None:
            await asyncio.shield(self._unsent)  # an answer that is ended still tells the error behind it
            self._unsent = None

    def _cease(self) -> None:
        if self._unsent is not None:
            self._unsent.cancel()

    async def _failed(self, error: ServerError) -> bytes:
        await self._sent()
        if self._keeper is not None:
            await self._keeper.failed(error)
        return self._frames.failed(error)


class PlainAnswer(Answer):
    """One JSON document, once everything is generated.

    Args:
        whole: collects it.
    """

    def __init__(
        self,
        generation: Generation,
        deltas: Deltas,
        whole: Whole,
        *,
        rename: Rename | None = None,
        keeper: Keeper | None = None,
    ) -> None:
        super().__init__(generation, deltas, rename=rename, keeper=keeper)
        self._whole = whole

    async def _run(self, send: Send) -> None:
        self._generation.take = self._collect
        async with aclosing(self._deltas) as batches:
            async for batch in batches:
                for delta in batch:
                    self._whole.add(delta)
        body = self._whole.encode(await self._usage())
        headers = [*JSON_HEADERS, (b"content-length", str(len(body)).encode())]
        self._started = True
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})

    def _collect(self, delta: Delta) -> bool:
        self._whole.add(delta)
        return True


def translate(cause: BaseException, retry_seconds: Callable[[], int]) -> ServerError:
    """The client's view of an error of the engine or the server, which is back after so long where it is gone."""
    if isinstance(cause, ServerError):
        return cause
    if isinstance(cause, RequestRefused):
        return BadRequest(str(cause), param=cause.param, code="invalid_value" if cause.param else None)
    if isinstance(cause, EngineDead):
        return Unavailable(
            "The engine failed while answering; the server is restarting.",
            code="engine_dead",
            retry_after=retry_seconds(),
        )
    if isinstance(cause, EngineBusy):
        return Unavailable(str(cause), retry_after=1)
    if isinstance(cause, EngineError):
        return ServerError(str(cause), code="engine_error")
    return unexpected()
