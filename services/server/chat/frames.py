"""Chat answers as bytes: server-sent events from templates built once per request, and the plain answer.

A frame is a constant head, the delta's text as JSON, a constant tail: nothing else is encoded per token.
"""

from typing import Any

import msgspec

from services.server.chat.message import SpokenMessage
from services.server.chat.usage import Usage
from services.server.engine.protocol import Delta, Position, TokenLogprob, ToolCallDelta
from services.server.errors import ServerError

_DONE = b"data: [DONE]\n\n"
_json = msgspec.json.encode


class Envelope(msgspec.Struct, frozen=True):
    """What every frame of one answer repeats.

    Attributes:
        id: of the answer.
        created: seconds since 1970.
        model: the name that pins the version, such as ``acme-support@7``.
        fingerprint: of the base model, as ``system_fingerprint``.
    """

    id: str
    created: int
    model: str
    fingerprint: str


class ChatFrames:
    """Frames of one streamed chat answer.

    Args:
        envelope: what repeats.
        answers: ``n``.
        top_logprobs: alternatives per token; None without log-probabilities.
        with_usage: whether the client asked for a usage frame; every other frame then says ``"usage": null``.
    """

    def __init__(self, envelope: Envelope, *, answers: int, top_logprobs: int | None, with_usage: bool) -> None:
        opening = _json(
            {
                "id": envelope.id,
                "object": "chat.completion.chunk",
                "created": envelope.created,
                "model": envelope.model,
                "system_fingerprint": envelope.fingerprint,
            }
        )[:-1]
        self._opening = b"data: " + opening
        self._closing = b',"usage":null}\n\n' if with_usage else b"}\n\n"
        self._with_usage = with_usage
        self._top = top_logprobs
        self._heads = [
            b'%b,"choices":[{"index":%d,"delta":{"content":' % (self._opening, index) for index in range(answers)
        ]
        self._tail = b'},"logprobs":null,"finish_reason":null}]' + self._closing
        self._answers = answers

    def begin(self) -> bytes:
        """The frames that say who speaks."""
        return b"".join(
            b'%b,"choices":[{"index":%d,"delta":{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":null}]%b'
            % (self._opening, index, self._closing)
            for index in range(self._answers)
        )

    def delta(self, delta: Delta) -> bytes:
        """The frames of one delta; empty where what was generated is read before it is told, and says nothing yet."""
        if delta.reasoning or delta.tool_calls:
            frame = self._rich(delta)
        elif delta.positions:
            frame = b'%b%b},"logprobs":%b,"finish_reason":null}]%b' % (
                self._heads[delta.index],
                _json(delta.text),
                _json(chat_logprobs(delta.positions, self._top or 0)),
                self._closing,
            )
        elif delta.text or (delta.token_ids and delta.finish_reason is None):
            # A token that completes no character has a frame, too, as of vLLM's: who watches a stream sees that it goes on.
            frame = self._heads[delta.index] + _json(delta.text) + self._tail
        else:
            frame = b""
        if delta.finish_reason is None:
            return frame
        return b'%b%b,"choices":[{"index":%d,"delta":{},"logprobs":null,"finish_reason":%b}]%b' % (
            frame,
            self._opening,
            delta.index,
            _json(delta.finish_reason),
            self._closing,
        )

    def _rich(self, delta: Delta) -> bytes:
        """The frame of a delta with more than text."""
        said: dict[str, Any] = {}
        if delta.text:
            said["content"] = delta.text
        if delta.reasoning:
            said["reasoning_content"] = delta.reasoning
        if delta.tool_calls:
            said["tool_calls"] = [_called(call) for call in delta.tool_calls]
        logprobs = chat_logprobs(delta.positions, self._top or 0) if delta.positions else None
        choice = {"index": delta.index, "delta": said, "logprobs": logprobs, "finish_reason": None}
        return b'%b,"choices":[%b]%b' % (self._opening, _json(choice), self._closing)

    def end(self, usage: Usage) -> bytes:
        """The usage, where the client asked for it, and the sign that the answer is whole."""
        return end_frames(self._opening, usage if self._with_usage else None)

    def failed(self, error: ServerError) -> bytes:
        """The error, which the SDKs raise; without ``[DONE]``."""
        return error_frame(error)


class ChatAnswer:
    """The plain answer, put together from deltas."""

    def __init__(self, envelope: Envelope, *, answers: int, top_logprobs: int | None) -> None:
        self._envelope = envelope
        self._top = top_logprobs
        self._messages = [SpokenMessage() for _ in range(answers)]
        self._positions: list[list[Position]] = [[] for _ in range(answers)]
        self._reasons: list[str | None] = [None] * answers

    def add(self, delta: Delta) -> None:
        """Take in one delta."""
        self._messages[delta.index].add(delta)
        if delta.positions:
            self._positions[delta.index] += delta.positions
        if delta.finish_reason is not None:
            self._reasons[delta.index] = delta.finish_reason

    def encode(self, usage: Usage) -> bytes:
        """The answer's JSON."""
        envelope = self._envelope
        choices = [
            {
                "index": index,
                "message": message.as_message(),
                "logprobs": None if self._top is None else chat_logprobs(self._positions[index], self._top),
                "finish_reason": self._reasons[index],
            }
            for index, message in enumerate(self._messages)
        ]
        return _json(
            {
                "id": envelope.id,
                "object": "chat.completion",
                "created": envelope.created,
                "model": envelope.model,
                "system_fingerprint": envelope.fingerprint,
                "choices": choices,
                "usage": usage,
            }
        )


def end_frames(opening: bytes, usage: Usage | None) -> bytes:
    """What ends a whole stream of chunks that begin with ``opening``."""
    return _DONE if usage is None else b'%b,"choices":[],"usage":%b}\n\n%b' % (opening, _json(usage), _DONE)


def error_frame(error: ServerError) -> bytes:
    """What ends a stream of chunks that broke."""
    return b"data: %b\n\n" % error.encoded()


def chat_logprobs(positions: list[Position], top: int) -> dict[str, Any]:
    """Log-probabilities in the shape of chat completions."""
    content = [
        {**_token(position.chosen), "top_logprobs": [_token(token) for token in position.top[:top]]}
        for position in positions
    ]
    return {"content": content, "refusal": None}


def _called(call: ToolCallDelta) -> dict[str, Any]:
    if call.id is None:
        return {"index": call.index, "function": {"arguments": call.arguments}}
    function = {"name": call.name, "arguments": call.arguments}
    return {"index": call.index, "id": call.id, "type": "function", "function": function}


def _token(token: TokenLogprob) -> dict[str, Any]:
    return {"token": token.token, "logprob": token.logprob, "bytes": list(token.token.encode())}
