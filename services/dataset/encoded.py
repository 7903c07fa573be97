"""A text's tokens, and which of them begin where."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate, chain
from typing import Any

import numpy as np

from services.dataset.rows import TokenIds


class Encoded:
    """The tokens of a text that was encoded as a whole, or in parts.

    The library is asked for the places of the few tokens that matter: to hear those of all takes longer than to find the tokens.

    Args:
        parts: encodings of the tokenizers library, in order.
        edges: the character that each part begins with.

    Attributes:
        ids: N token ids.
    """

    def __init__(self, parts: Sequence[Any], edges: Sequence[int] = (0,)) -> None:
        self._parts, self._edges = parts, edges
        self._before = [0, *accumulate(len(part) for part in parts)]
        self.ids: TokenIds = np.fromiter(chain.from_iterable(part.ids for part in parts), np.int32, self._before[-1])

    def reaches_over(self, place: int) -> bool:
        """Whether a token has characters before and after the beginning of character ``place``."""
        part, char = self._at(place)
        token = self._parts[part].char_to_token(char)
        return token is not None and self._begin(part, token) < char

    def first_from(self, place: int) -> int:
        """The first token that begins with character ``place`` or a later one; N where none does."""
        number, char = self._at(place)
        part, before = self._parts[number], self._before[number]
        if not len(part) or self._begin(number, len(part) - 1) < char:
            return self._before[number + 1]
        token = part.char_to_token(char)
        if token is None:  # some tokenizers leave blanks to no token
            return before + bisect_left([begin for begin, _ in part.offsets], char)
        while self._begin(number, token) < char:
            token += 1
        while token and self._begin(number, token - 1) >= char:  # some tokens have no characters
            token -= 1
        return before + int(token)

    def _at(self, place: int) -> tuple[int, int]:
        """The part that holds a character, and which of the part's it is."""
        part = bisect_right(self._edges, place) - 1
        return part, place - self._edges[part]

    def _begin(self, part: int, token: int) -> int:
        return int(self._parts[part].token_to_chars(token)[0])
