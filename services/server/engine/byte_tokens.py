"""Token ids to text while they come, for tokenizers whose tokens are bytes (GPT-2's alphabet): SmolLM2, Llama 3, Qwen and others.

What the tokenizers library's ``DecodeStream`` gives, in a tenth of its time: it decodes a piece of the answer twice for each token.
"""

from collections.abc import Sequence
from typing import Any

from tokenizers import decoders

_BROKEN = "\ufffd"  # what stands for bytes that are no character, or none yet
_LARGEST = 2**32 - 1  # number that the library takes
_TAIL_BYTES = 16  # of a prompt: more than a character has


class ByteTokens:
    """The bytes of a vocabulary's tokens.

    Args:
        backend: a tokenizer of the tokenizers library that ``fit``.
    """

    def __init__(self, backend: Any) -> None:
        self._tables = {skip: _Table(backend, skip_special_tokens=skip) for skip in (False, True)}

    @staticmethod
    def fit(backend: Any) -> bool:
        """Whether a text is its tokens' bytes one after the other, and nothing else is done to it."""
        return isinstance(backend.decoder, decoders.ByteLevel)

    def stream(self, prompt: Sequence[int], *, skip_special_tokens: bool) -> "TextStream | None":
        """The text of an answer to ``prompt``; None behind half a character, where ``DecodeStream`` says more than the answer."""
        table = self._tables[skip_special_tokens]
        tail = b""
        for token in reversed(prompt):
            tail = table[token] + tail
            if len(tail) >= _TAIL_BYTES:
                break
        return None if tail.decode(errors="replace").endswith(_BROKEN) else TextStream(table)


class TextStream:
    """One answer's text."""

    def __init__(self, table: dict[int, bytes]) -> None:
        self._table = table
        self._pending = b""

    def step(self, token: int) -> str:
        """What a token adds; empty while a character is incomplete, or until bytes that are none are followed by one."""
        self._pending += self._table[token]
        text = self._pending.decode(errors="replace")
        if text.endswith(_BROKEN):
            return ""
        self._pending = b""
        return text


class _Table(dict[int, bytes]):
    """The bytes of each token that was asked for; none of a token that is skipped, or that there is not."""

    def __init__(self, backend: Any, *, skip_special_tokens: bool) -> None:
        super().__init__()
        self._backend = backend
        added = backend.get_added_tokens_decoder()
        self._skipped = {token.content for token in added.values() if token.special and skip_special_tokens}

    def __missing__(self, number: int) -> bytes:
        token = self._backend.id_to_token(number) if 0 <= number <= _LARGEST else None
        made = b"" if token is None or token in self._skipped else _bytes_of(token)
        self[number] = made
        return made


def _alphabet() -> dict[str, int]:
    own = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = (byte for byte in range(256) if byte not in own)
    return {chr(byte): byte for byte in own} | {chr(256 + place): byte for place, byte in enumerate(others)}


_BYTES = _alphabet()


def _bytes_of(token: str) -> bytes:
    """A token's letters are bytes; one with another letter, which only added tokens have, is a text."""
    try:
        return bytes([_BYTES[letter] for letter in token])
    except KeyError:
        return token.encode()
