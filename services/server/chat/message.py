"""One answer, put together from deltas."""

from typing import Any

import msgspec

from services.server.engine.protocol import Delta


class SpokenCall(msgspec.Struct):
    """A function call that grows."""

    id: str
    name: str
    arguments: str = ""


class SpokenMessage:
    """One answer's text, reasoning and calls, put together from deltas.

    Attributes:
        calls: one per function call, in order.
    """

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._reasoning: list[str] = []
        self.calls: list[SpokenCall] = []

    def add(self, delta: Delta) -> None:
        """Take in one delta."""
        self._texts.append(delta.text)
        if delta.reasoning:
            self._reasoning.append(delta.reasoning)
        for call in delta.tool_calls:
            if call.index == len(self.calls):
                self.calls.append(SpokenCall(id=call.id or "", name=call.name or ""))
            self.calls[call.index].arguments += call.arguments

    @property
    def text(self) -> str:
        """What is said to the user."""
        return "".join(self._texts)

    @property
    def reasoning(self) -> str:
        """What was thought before."""
        return "".join(self._reasoning)

    def as_message(self) -> dict[str, Any]:
        """OpenAI's message object; ``content`` is null where the answer only calls."""
        text = self.text
        message: dict[str, Any] = {
            "role": "assistant",
            "content": None if self.calls and not text.strip() else text,
            "refusal": None,
        }
        if self._reasoning:
            message["reasoning_content"] = self.reasoning
        if self.calls:
            message["tool_calls"] = [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                for call in self.calls
            ]
        return message
