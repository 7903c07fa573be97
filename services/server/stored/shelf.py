"""What the routes know of stored responses: beside the event loop, in the client's terms, and only where there is a store."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import structlog

from services.jobs.errors import DatabaseUnusable
from services.server.errors import BadRequest, ResponseNotFound, Unavailable
from services.server.keys import Key
from services.server.settings import Limits
from services.server.stored.store import ConversationTooLong, ResponseStore, ResponseUnknown, StoredResponse, StoreFull

log = structlog.get_logger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

_EVERY_SECONDS = 600.0
_NOTHING = "this server stores no responses"
_SEND_ALL = "send the whole conversation as 'input'"


class Shelf:
    """Stored responses, each for the key that asked for it.

    Args:
        store: None where the operator has not switched storing on.
        limits: a conversation may hold as much as a request.
    """

    def __init__(self, store: ResponseStore | None, limits: Limits) -> None:
        self._store = store
        self._limits = limits

    def keeps(self, *, wanted: bool | None) -> bool:
        """Whether an answer is to be stored, by the request's ``store``; OpenAI's default is that it is."""
        return self._store is not None and wanted is not False

    async def keep(self, response: StoredResponse) -> bool:
        """Store a response; whether it is stored. A disk that fails takes nothing from an answer that is there."""
        if self._store is None:
            return False
        try:
            await asyncio.to_thread(self._store.add, response)
        except (DatabaseUnusable, StoreFull) as error:
            log.error("an answer is not stored", response=response.id, reason=str(error))  # noqa: TRY400 - no trace
            return False
        return True

    async def before(self, key: Key, previous_id: str | None) -> list[dict[str, Any]]:
        """The items that a request goes on from.

        Args:
            key: the caller's.
            previous_id: the request's ``previous_response_id``.

        Raises:
            BadRequest: there is no such response for this key, or its conversation is not whole, or too long.
            Unavailable: the database cannot be read.
        """
        if previous_id is None:
            return []
        if self._store is None:
            raise _unfit(f"'previous_response_id' is not supported: {_NOTHING}; {_SEND_ALL}.", "unsupported_parameter")
        try:
            return await self._conversation(self._store, key, previous_id, answered=True)
        except ResponseUnknown as unknown:
            message = f"Previous response with id '{unknown.response_id[:100]}' not found"
            if unknown.response_id != previous_id:
                message += ", from which that one goes on"
            raise _unfit(f"{message}: {_SEND_ALL}.", "previous_response_not_found") from None

    async def answer(self, key: Key, response_id: str) -> bytes:
        """A response object's JSON.

        Raises:
            ResponseNotFound: there is none for this key.
            Unavailable: the database cannot be read.
        """
        try:
            return await _off_loop(self._required(response_id).answer, key.name, response_id)
        except ResponseUnknown:
            raise _not_found(response_id) from None

    async def input_items(self, key: Key, response_id: str) -> list[dict[str, Any]]:
        """The items that a response answered, those of the conversation before it included.

        Raises:
            ResponseNotFound: there is none for this key, or one that it goes on from is gone.
            BadRequest: they are too many.
            Unavailable: the database cannot be read.
        """
        try:
            return await self._conversation(self._required(response_id), key, response_id, answered=False)
        except ResponseUnknown as unknown:
            raise _not_found(unknown.response_id) from None

    async def delete(self, key: Key, response_id: str) -> None:
        """Forget a response.

        Raises:
            ResponseNotFound: there is none for this key.
            Unavailable: the database cannot be written.
        """
        try:
            await _off_loop(self._required(response_id).delete, key.name, response_id)
        except ResponseUnknown:
            raise _not_found(response_id) from None

    async def keep_swept(self, *, every_seconds: float = _EVERY_SECONDS) -> None:
        """Forget what is too old, now and then, for ever; without a store there is nothing to do."""
        while self._store is not None:
            with contextlib.suppress(Unavailable):  # its reason is logged by then
                await _off_loop(self._store.sweep)
            await asyncio.sleep(every_seconds)

    def _required(self, response_id: str) -> ResponseStore:
        if self._store is None:
            raise _not_found(response_id, f": {_NOTHING}. Keep what you were answered, and {_SEND_ALL}")
        return self._store

    async def _conversation(
        self, store: ResponseStore, key: Key, response_id: str, *, answered: bool
    ) -> list[dict[str, Any]]:
        most = self._limits.max_body_bytes
        try:
            return await _off_loop(store.conversation, key.name, response_id, max_bytes=most, answered=answered)
        except ConversationTooLong:
            raise _unfit(
                f"The conversation is over {most} bytes; send what matters of it as 'input'.",
                "invalid_value",
            ) from None


async def _off_loop(work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """Work on the database beside the event loop.

    Raises:
        Unavailable: the database cannot be used; the reason is logged.
    """
    try:
        return await asyncio.to_thread(work, *arguments, **named)
    except DatabaseUnusable as error:
        log.error("stored responses cannot be reached", reason=str(error))  # noqa: TRY400 - no trace
        raise Unavailable(
            "Stored responses cannot be reached; the operator finds the reason in the log.", retry_after=5
        ) from error


def _unfit(message: str, code: str) -> BadRequest:
    return BadRequest(message, param="previous_response_id", code=code)


def _not_found(response_id: str, why: str = "") -> ResponseNotFound:
    return ResponseNotFound(f"Response with id '{response_id[:100]}' not found{why}.", param="response_id")
