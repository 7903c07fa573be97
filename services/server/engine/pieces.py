"""Texts encoded piece by piece, between the added tokens that the tokenizers library itself takes out first.

What a piece becomes depends on no other piece, so the pieces that conversations share (a system prompt, the turns before the last)
are encoded once.
"""

import re
from collections.abc import Sequence
from typing import Any

_PIECES = 256
_PIECE_CHARS = 4096  # longer ones are encoded each time: what is kept stays below about 10 MB


class Pieces:
    """Encodes texts, and keeps the token ids of the pieces that were asked for last.

    Args:
        backend: a tokenizer of the tokenizers library, which neither pads nor truncates.
    """

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self._added = {
            token.content: number
            for number, token in backend.get_added_tokens_decoder().items()
            if not token.normalized and token.content
        }
        # The longest of those that begin at a place, as the library finds them.
        longest_first = sorted(self._added, key=len, reverse=True)
        self._cut = re.compile(f"({'|'.join(map(re.escape, longest_first))})") if longest_first else None
        self._kept: dict[str, list[int]] = {}

    @staticmethod
    def fit(backend: Any) -> bool:
        """Whether a text may be cut at every added token: not where one takes blanks around it, or looks at its neighbours."""
        return not any(
            token.lstrip or token.rstrip or token.single_word for token in backend.get_added_tokens_decoder().values()
        )

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The token ids of each text, the ones that the backend gives for the whole of it without special tokens of its own.

        What is new in any of them is encoded at once, on as many cores as there are new pieces.
        """
        cuts = [[text] if self._cut is None else self._cut.split(text) for text in texts]
        wanted: dict[str, None] = {}  # in order, each once
        for first, *rest in cuts:
            if first:
                wanted[first] = None
            for added, piece in zip(rest[::2], rest[1::2], strict=True):
                if piece and piece not in self._kept:
                    # With the added token before it: some tokenizers treat the beginning of a text otherwise.
                    wanted[added + piece] = None
        new = self._encoded(list(wanted))
        return [self._joined(cut, new) for cut in cuts]

    def _joined(self, cut: list[str], new: dict[str, list[int]]) -> list[int]:
        first, *rest = cut
        ids = list(new[first]) if first else []
        for added, piece in zip(rest[::2], rest[1::2], strict=True):
            ids.append(self._added[added])
            if piece:
                ids += self._after(added, piece, new)
        return ids

    def _after(self, added: str, piece: str, new: dict[str, list[int]]) -> list[int]:
        ids = self._kept.pop(piece, None)
        if ids is None:
            text = added + piece
            if text not in new:  # forgotten since, for what the texts before had
                new |= self._encoded([text])
            ids = new[text][1:]
            if len(piece) > _PIECE_CHARS:
                return ids
            if len(self._kept) >= _PIECES:
                del self._kept[next(iter(self._kept))]
        self._kept[piece] = ids  # the last one now
        return ids

    def _encoded(self, texts: list[str]) -> dict[str, list[int]]:
        if not texts:
            return {}
        encoded = self._backend.encode_batch_fast(texts, add_special_tokens=False)
        return {text: one.ids for text, one in zip(texts, encoded, strict=True)}
