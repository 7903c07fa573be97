"""Completions answers as bytes: server-sent events and the plain answer of ``/v1/completions``."""

from collections.abc import Sequence
from typing import Any

import msgspec

from services.server.chat.frames import Envelope, end_frames, error_frame
from services.server.chat.usage import Usage
from services.server.engine.protocol import Delta, Position
from services.server.errors import ServerError

_json = msgspec.json.encode


class TextFrames:
    """Frames of one streamed completions answer; the parameters are those of ``ChatFrames``.

    Args:
        envelope: what repeats.
        logprobs: alternatives per token; None without log-probabilities.
        with_usage: whether the client asked for a usage frame.
        echoes: the prompt's text per choice, where it is echoed.
    """

    def __init__(self, envelope: Envelope, *, logprobs: int | None, with_usage: bool, echoes: list[str] | None) -> None:
        self._opening = b"data: " + _json(_head(envelope))[:-1]
        self._closing = b',"usage":null}\n\n' if with_usage else b"}\n\n"
        self._with_usage = with_usage
        self._logprobs = logprobs
        self._echoes = echoes
        self._offsets: dict[int, int] = {}

    def begin(self) -> bytes:
        """Nothing precedes the text, but the prompt where it is echoed without log-probabilities."""
        if self._echoes is None or self._logprobs is not None:
            return b""
        return b"".join(self._frame(index, text, None, None) for index, text in enumerate(self._echoes))

    def delta(self, delta: Delta) -> bytes:
        """The frame of one delta; empty where it has neither a token nor an end."""
        offset = self._offsets.get(delta.index, 0)
        text, positions = delta.text, delta.positions or []
        if self._echoes is not None and delta.prompt_positions is not None:
            positions = delta.prompt_positions + positions
            text = self._echoes[delta.index] + text
        logprobs = None
        if positions and self._logprobs is not None:
            logprobs = text_logprobs(positions, self._logprobs, offset)
            # Of the tokens, whose text may come later: a stop string may begin in it.
            self._offsets[delta.index] = offset + sum(len(position.chosen.token) for position in positions)
        if not text and not delta.token_ids and logprobs is None and delta.finish_reason is None:
            return b""
        return self._frame(delta.index, text, logprobs, delta.finish_reason)

    def end(self, usage: Usage) -> bytes:
        """See ``ChatFrames.end``."""
        return end_frames(self._opening, usage if self._with_usage else None)

    def failed(self, error: ServerError) -> bytes:
        """See ``ChatFrames.failed``."""
        return error_frame(error)

    def _frame(self, index: int, text: str, logprobs: dict[str, Any] | None, reason: str | None) -> bytes:
        choice = {"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}
        return b'%b,"choices":[%b]%b' % (self._opening, _json(choice), self._closing)


class TextAnswer:
    """The plain answer, put together from deltas."""

    def __init__(self, envelope: Envelope, *, choices: int, logprobs: int | None, echoes: list[str] | None) -> None:
        self._envelope = envelope
        self._logprobs = logprobs
        self._texts = [[text] for text in echoes] if echoes is not None else [[] for _ in range(choices)]
        self._positions: list[list[Position]] = [[] for _ in range(choices)]
        self._reasons: list[str | None] = [None] * choices
        self._echo = echoes is not None

    def add(self, delta: Delta) -> None:
        """Take in one delta."""
        self._texts[delta.index].append(delta.text)
        if self._echo and delta.prompt_positions is not None:
            self._positions[delta.index] += delta.prompt_positions
        if delta.positions:
            self._positions[delta.index] += delta.positions
        if delta.finish_reason is not None:
            self._reasons[delta.index] = delta.finish_reason

    def encode(self, usage: Usage) -> bytes:
        """The answer's JSON."""
        choices = [
            {
                "index": index,
                "text": "".join(texts),
                "logprobs": None
                if self._logprobs is None
                else text_logprobs(self._positions[index], self._logprobs, 0),
                "finish_reason": self._reasons[index],
            }
            for index, texts in enumerate(self._texts)
        ]
        return _json({**_head(self._envelope), "choices": choices, "usage": usage})


def text_logprobs(positions: Sequence[Position], top: int, offset: int) -> dict[str, Any]:
    """Log-probabilities in the shape of completions: parallel lists; the first token of an echoed prompt has none.

    The token itself is among the likeliest of its place, or comes beside them, as OpenAI's and vLLM's.
    """
    tokens, values, tops, offsets = [], [], [], []
    for position in positions:
        chosen = position.chosen
        tokens.append(chosen.token)
        values.append(chosen.logprob)
        tops.append(
            None if chosen.logprob is None else {item.token: item.logprob for item in (chosen, *position.top[:top])}
        )
        offsets.append(offset)
        offset += len(chosen.token)
    return {"tokens": tokens, "token_logprobs": values, "top_logprobs": tops, "text_offset": offsets}


def _head(envelope: Envelope) -> dict[str, Any]:
    return {
        "id": envelope.id,
        "object": "text_completion",
        "created": envelope.created,
        "model": envelope.model,
        "system_fingerprint": envelope.fingerprint,
    }
