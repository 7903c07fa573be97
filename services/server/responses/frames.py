"""A streamed answer as the events of the Responses API, numbered; the frequent ones from templates built once per item.

What breaks a stream is told twice at its end: ``response.failed`` for who reads the events, and ``error``, whose own ``error``
makes OpenAI's SDKs raise it.
"""

from typing import Any

import msgspec

from services.server.chat.usage import Usage
from services.server.engine.protocol import Delta
from services.server.errors import ServerError
from services.server.responses.document import ResponseDocument
from services.server.responses.output import Change, Item, Output, logprobs_of, object_of, part_of

_json = msgspec.json.encode
_DELTAS = {
    "message": b"response.output_text.delta",
    "reasoning": b"response.reasoning_text.delta",
    "function_call": b"response.function_call_arguments.delta",
}
_DONE = {
    "message": b"response.output_text.done",
    "reasoning": b"response.reasoning_text.done",
    "function_call": b"response.function_call_arguments.done",
}


class ResponseFrames:
    """Events of one streamed answer.

    Args:
        document: of the answer.
        output: of the answer, still empty.
        top_logprobs: alternatives per token; None without log-probabilities.
    """

    def __init__(self, document: ResponseDocument, output: Output, *, top_logprobs: int | None) -> None:
        self._document = document
        self._output = output
        self._top = top_logprobs
        self._number = 0
        self._heads: dict[int, bytes] = {}

    def begin(self) -> bytes:
        """The answer exists."""
        begun = self._document.begun()
        return self._response(b"response.created", begun) + self._response(b"response.in_progress", begun)

    def delta(self, delta: Delta) -> bytes:
        """The events of one delta; empty where it has nothing to say yet."""
        return b"".join([self._changed(change) for change in self._output.add(delta)])

    def end(self, usage: Usage) -> bytes:
        """The whole answer once more; nothing follows it."""
        kind = b"response.incomplete" if self._output.cut else b"response.completed"
        return self._response(kind, self._document.ended(self._output, usage))

    def failed(self, error: ServerError) -> bytes:
        """What there was of the answer, and the error."""
        self._output.break_off()
        failed = self._response(b"response.failed", self._document.failed(self._output, error))
        told = error.body().error
        fields = {"code": told.code, "message": told.message, "param": told.param, "error": told}
        return failed + self._event(b"error", fields)

    def _changed(self, change: Change) -> bytes:
        if change.step == "grew":
            return self._grew(change)
        return self._opened(change.item) if change.step == "opened" else self._closed(change.item)

    def _opened(self, item: Item) -> bytes:
        where = {"item_id": item.id, "output_index": item.place}
        opened = self._event(
            b"response.output_item.added", {"output_index": item.place, "item": object_of(item, self._top)}
        )
        if item.kind != "function_call":
            where["content_index"] = 0
            opened += self._event(b"response.content_part.added", {**where, "part": part_of(item, "", [], self._top)})
        self._heads[item.place] = b'%b,"delta":' % _opening(_DELTAS[item.kind], where)
        return opened

    def _grew(self, change: Change) -> bytes:
        logprobs = b""
        if change.positions:
            logprobs = b',"logprobs":%b' % _json(logprobs_of(change.positions, self._top))
        elif change.item.kind == "message":
            logprobs = b',"logprobs":[]'
        return b"%b%b%b%b" % (self._heads[change.item.place], _json(change.text), logprobs, self._closing())

    def _closed(self, item: Item) -> bytes:
        del self._heads[item.place]
        where = {"item_id": item.id, "output_index": item.place}
        text = item.text
        if item.kind == "function_call":
            closed = self._event(_DONE[item.kind], {**where, "name": item.name, "arguments": text})
        else:
            where["content_index"] = 0
            part = part_of(item, text, item.positions, self._top)
            logprobs = {"logprobs": part["logprobs"]} if item.kind == "message" else {}
            closed = self._event(_DONE[item.kind], {**where, "text": text, **logprobs})
            closed += self._event(b"response.content_part.done", {**where, "part": part})
        return closed + self._event(
            b"response.output_item.done", {"output_index": item.place, "item": object_of(item, self._top)}
        )

    def _response(self, kind: bytes, document: bytes) -> bytes:
        return b'%b,"response":%b%b' % (_opening(kind, {}), document, self._closing())

    def _event(self, kind: bytes, fields: dict[str, Any]) -> bytes:
        return _opening(kind, fields) + self._closing()

    def _closing(self) -> bytes:
        number = self._number
        self._number += 1
        return b',"sequence_number":%d}\n\n' % number


def _opening(kind: bytes, fields: dict[str, Any]) -> bytes:
    """An event up to its number, or to a field that is still to be written."""
    return b"event: %b\ndata: %b" % (kind, _json({"type": kind.decode(), **fields})[:-1])
