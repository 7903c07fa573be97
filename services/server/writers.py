"""What turns an answer into bytes, and what keeps it: each API has its own."""

from typing import Protocol

from services.server.chat.usage import Usage
from services.server.engine.protocol import Delta
from services.server.errors import ServerError


class Frames(Protocol):
    """Turns one answer into server-sent events."""

    def begin(self) -> bytes:
        """Before the first delta."""

    def delta(self, delta: Delta) -> bytes:
        """One delta; may be empty."""

    def end(self, usage: Usage) -> bytes:
        """After the last delta."""

    def failed(self, error: ServerError) -> bytes:
        """In place of the rest, where an error ends the answer after its first byte."""


class Whole(Protocol):
    """Collects deltas into one JSON document."""

    def add(self, delta: Delta) -> None:
        """Take in one delta."""

    def encode(self, usage: Usage) -> bytes:
        """The document."""


class Keeper(Protocol):
    """Keeps an answer before its end is told, so that who was told of it finds it."""

    async def ended(self, usage: Usage) -> None:
        """After the last delta."""

    async def failed(self, error: ServerError) -> None:
        """An error ends the answer after its first byte."""
