"""An answer's output items, grown from deltas: reasoning, message, function calls, in the order they came.

Blanks that a model writes before its text or around its calls open no message of their own.
"""

from typing import Any, Literal

import msgspec

from services.server.chat.frames import chat_logprobs
from services.server.engine.protocol import Delta, Position, ToolCallDelta

_IDS = {"reasoning": "rs", "message": "msg", "function_call": "fc"}


class Item(msgspec.Struct, kw_only=True):
    """One output item that grows.

    Attributes:
        place: in the output.
        pieces: of its text, its reasoning or its call's arguments.
        positions: of a message's tokens, where log-probabilities were asked for.
        call_id: of a function call.
        name: of the called function.
    """

    kind: Literal["reasoning", "message", "function_call"]
    place: int
    id: str
    status: Literal["in_progress", "completed", "incomplete"] = "in_progress"
    pieces: list[str] = []
    positions: list[Position] = []
    call_id: str = ""
    name: str = ""

    @property
    def text(self) -> str:
        """What it holds."""
        return "".join(self.pieces)


class Change(msgspec.Struct, frozen=True):
    """What a delta did to an item.

    Attributes:
        step: the item began, gained ``text``, or ended.
        positions: of the text's tokens.
    """

    item: Item
    step: Literal["opened", "grew", "closed"]
    text: str = ""
    positions: list[Position] = []


class Output:
    """Every item of one answer.

    Args:
        answer_id: from which the items' ids are made.

    Attributes:
        items: in their order.
        cut: the answer ran into its limit.
    """

    def __init__(self, answer_id: str) -> None:
        self.items: list[Item] = []
        self.cut = False
        self._answer = answer_id.rpartition("_")[2]
        self._calls: list[Item] = []
        self._held = ""
        self._positions: list[Position] = []

    def add(self, delta: Delta) -> list[Change]:
        """Take in one delta; what it changed."""
        changes: list[Change] = []
        if delta.reasoning:
            self._forget_blanks()
            self._grow(self._open("reasoning", changes), delta.reasoning, changes)
        if delta.positions and (delta.text or not (delta.reasoning or delta.tool_calls)):
            self._positions += delta.positions
        if delta.text:
            self._say(delta.text, changes)
        for call in delta.tool_calls:
            self._forget_blanks()
            self._call(call, changes)
        if delta.finish_reason is not None:
            self._finish(changes, cut=delta.finish_reason == "length")
        return changes

    def break_off(self) -> None:
        """The answer ended in an error."""
        self._close([], "incomplete")

    def _forget_blanks(self) -> None:
        self._held = ""
        self._positions = []

    def _say(self, text: str, changes: list[Change]) -> None:
        self._held += text
        if self._current("message") is not None or self._held.strip():
            self._tell(changes)

    def _tell(self, changes: list[Change]) -> None:
        """Give the message what was held back."""
        item = self._open("message", changes)
        text, positions = self._held, self._positions
        self._forget_blanks()
        if text or positions:
            item.positions += positions
            self._grow(item, text, changes, positions)

    def _call(self, call: ToolCallDelta, changes: list[Change]) -> None:
        if call.index == len(self._calls):
            self._calls.append(self._begin("function_call", changes, call))
        if call.arguments:
            self._grow(self._calls[call.index], call.arguments, changes)

    def _finish(self, changes: list[Change], *, cut: bool) -> None:
        self.cut = cut
        # An answer that was not cut says something, be it nothing.
        silent = not self.items or (self._current("reasoning") is not None and not cut)
        if silent or (self._positions and self._current("message") is not None):
            self._tell(changes)
        self._close(changes, "incomplete" if cut else "completed")

    def _current(self, kind: str) -> Item | None:
        return self.items[-1] if self.items and self.items[-1].kind == kind else None

    def _open(self, kind: Literal["reasoning", "message"], changes: list[Change]) -> Item:
        return self._current(kind) or self._begin(kind, changes)

    def _begin(
        self,
        kind: Literal["reasoning", "message", "function_call"],
        changes: list[Change],
        call: ToolCallDelta | None = None,
    ) -> Item:
        self._close(changes, "completed")
        place = len(self.items)
        item = Item(kind=kind, place=place, id=f"{_IDS[kind]}_{self._answer}{place:02x}")
        if call is not None:
            item.call_id, item.name = call.id or "", call.name or ""
        self.items.append(item)
        changes.append(Change(item, "opened"))
        return item

    @staticmethod
    def _grow(item: Item, text: str, changes: list[Change], positions: list[Position] | None = None) -> None:
        item.pieces.append(text)
        changes.append(Change(item, "grew", text, positions or []))

    def _close(self, changes: list[Change], status: Literal["completed", "incomplete"]) -> None:
        """End the item that grew last."""
        if self.items and self.items[-1].status == "in_progress":
            self.items[-1].status = status
            changes.append(Change(self.items[-1], "closed"))


def object_of(item: Item, top_logprobs: int | None) -> dict[str, Any]:
    """The item as OpenAI's JSON object.

    Args:
        item: as far as it has grown.
        top_logprobs: alternatives per token; None without log-probabilities.
    """
    head = {"id": item.id, "type": item.kind, "status": item.status}
    if item.kind == "function_call":
        return {**head, "call_id": item.call_id, "name": item.name, "arguments": item.text}
    opened = item.status == "in_progress"
    content = [] if opened else [part_of(item, item.text, item.positions, top_logprobs)]
    if item.kind == "message":
        return {**head, "role": "assistant", "content": content}
    return {**head, "summary": [], "content": content, "encrypted_content": None}


def part_of(item: Item, text: str, positions: list[Position], top_logprobs: int | None) -> dict[str, Any]:
    """The content part of a message or of reasoning as OpenAI's JSON object."""
    if item.kind == "reasoning":
        return {"type": "reasoning_text", "text": text}
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs_of(positions, top_logprobs)}


def logprobs_of(positions: list[Position], top_logprobs: int | None) -> list[dict[str, Any]]:
    """Log-probabilities in the shape of the Responses API; none where none were asked for."""
    if top_logprobs is None or not positions:
        return []
    content: list[dict[str, Any]] = chat_logprobs(positions, top_logprobs)["content"]
    return content
