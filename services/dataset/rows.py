"""What a row is, whatever format it was written in."""

import hashlib
from functools import cached_property
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from services.dataset.checks import Check

NOT_LEARNT = -100
TokenIds = NDArray[np.int32]

Role = Literal["system", "user", "assistant"]
Format = Literal["messages", "instruction", "conversations", "prompt"]


class Message(msgspec.Struct, frozen=True):
    """One turn; ``learn`` is false for an assistant's turn that ``weight: 0`` or its place in a ``prompt`` excludes."""

    role: Role
    content: str
    learn: bool = True


class Row(msgspec.Struct, frozen=True, dict=True):
    """One conversation and where it was read; ``check`` is what tells a right answer to it, where the row says so."""

    messages: tuple[Message, ...]
    file: str
    line: int
    format: Format
    check: Check | None = None

    @property
    def place(self) -> str:
        """``file:line``."""
        return f"{self.file}:{self.line}"

    @cached_property
    def sha256(self) -> str:
        """Its ``content_hash``."""
        return content_hash(self.messages)


class Example(msgspec.Struct, frozen=True):
    """One row in tokens.

    Attributes:
        input_ids: N token ids, int32.
        labels: N ids, int32, -100 where nothing is learnt.
        row_hash: of the row's content, in hexadecimal.
    """

    input_ids: TokenIds
    labels: TokenIds
    row_hash: str

    @property
    def supervised(self) -> int:
        """How many tokens are learnt."""
        return int(np.count_nonzero(self.labels != NOT_LEARNT))


def content_hash(messages: tuple[Message, ...]) -> str:
    """A hash that is equal exactly where roles, texts and weights are."""
    return hashlib.sha256(msgspec.json.encode(messages)).hexdigest()
