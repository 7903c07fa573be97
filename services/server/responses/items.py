"""``input`` as messages of a conversation: items side by side that one turn of the assistant made become one message."""

from typing import Any, Literal

import msgspec

from services.server.chat.schema import CalledFunction, Message, ToolCall
from services.server.decode import convert
from services.server.errors import BadRequest

_TEXTS = {"input_text", "output_text"}
_THOUGHTS = {"reasoning_text"}
Status = Literal["in_progress", "completed", "incomplete"] | None


class Part(msgspec.Struct, frozen=True):
    """A part of a content; all but texts and refusals are refused."""

    type: str
    text: str | None = None
    refusal: str | None = None


class InputMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What somebody said. ``id``, ``status`` and ``phase`` come from an earlier answer and are without effect."""

    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[Part]
    type: Literal["message"] = "message"
    id: str | None = None
    status: Status = None
    phase: str | None = None


class FunctionCall(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an earlier answer called."""

    call_id: str
    name: str
    arguments: str
    type: Literal["function_call"]
    id: str | None = None
    status: Status = None
    # Null in answers to who did not ask for them.
    caller: None = None
    namespace: None = None
    async_: None = msgspec.field(default=None, name="async")


class FunctionCallOutput(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a called function gave."""

    call_id: str
    output: str | list[Part]
    type: Literal["function_call_output"]
    id: str | None = None
    status: Status = None
    name: str | None = None
    caller: None = None
    namespace: None = None


class ReasoningItem(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an earlier answer thought: its ``content``. Summaries and encrypted reasoning are no use to a model here."""

    type: Literal["reasoning"]
    id: str | None = None
    summary: Any = None
    content: list[Part] | None = None
    encrypted_content: str | None = None
    status: Status = None


Item = InputMessage | FunctionCall | FunctionCallOutput | ReasoningItem
ITEMS: dict[str, type[Item]] = {
    "message": InputMessage,
    "function_call": FunctionCall,
    "function_call_output": FunctionCallOutput,
    "reasoning": ReasoningItem,
}


def items_of(given: str | list[dict[str, Any]], field: str = "input") -> list[Item]:
    """The items of a field.

    Raises:
        BadRequest: an item that is not supported; ``param`` names it.
    """
    if isinstance(given, str):
        return [InputMessage(role="user", content=given)]
    return [_typed(item, f"{field}[{index}]") for index, item in enumerate(given)]


def messages_of(items: list[Item], earlier: list[Item] | None = None) -> list[Message]:
    """The conversation.

    Args:
        items: of the request's ``input``.
        earlier: of the stored conversation that it goes on from.

    Raises:
        BadRequest: a part that is not supported, or the output of a call that is not there; ``param`` names it.
    """
    conversation = _Conversation()
    for item in earlier or ():
        conversation.add(item, "previous_response_id")
    for index, item in enumerate(items):
        conversation.add(item, f"input[{index}]")
    return conversation.close()


class _Turn:
    """What the assistant thought, said and called before somebody else had the word."""

    def __init__(self) -> None:
        self.reasoning: str | None = None
        self.content: str | None = None
        self.calls: list[ToolCall] = []

    def message(self) -> Message:
        return Message(
            role="assistant",
            content=self.content if self.calls else self.content or "",
            tool_calls=self.calls or None,
            reasoning_content=self.reasoning,
        )


class _Conversation:
    """Messages, put together from items."""

    def __init__(self) -> None:
        self._messages: list[Message] = []
        self._turn: _Turn | None = None
        self._called: set[str] = set()

    def add(self, item: Item, where: str) -> None:
        match item:
            case ReasoningItem():
                turn = self._new_turn() if self._spoken() else self._same_turn()
                turn.reasoning = (turn.reasoning or "") + _text(item.content or [], f"{where}.content", _THOUGHTS)
            case InputMessage(role="assistant"):
                turn = self._new_turn() if self._spoken() else self._same_turn()
                turn.content = _text(item.content, f"{where}.content")
            case FunctionCall():
                self._called.add(item.call_id)
                function = CalledFunction(name=item.name, arguments=item.arguments)
                self._same_turn().calls.append(ToolCall(id=item.call_id, function=function))
            case FunctionCallOutput():
                if item.call_id not in self._called:
                    raise BadRequest(
                        f"Invalid '{where}.call_id': no 'function_call' before it has this id.",
                        param=f"{where}.call_id",
                        code="invalid_value",
                    )
                self._say(
                    Message(role="tool", tool_call_id=item.call_id, content=_text(item.output, f"{where}.output"))
                )
            case InputMessage():
                self._say(Message(role=item.role, content=_text(item.content, f"{where}.content")))

    def close(self) -> list[Message]:
        """Every message."""
        if self._turn is not None:
            self._messages.append(self._turn.message())
            self._turn = None
        return self._messages

    def _say(self, message: Message) -> None:
        self.close().append(message)

    def _spoken(self) -> bool:
        return self._turn is not None and (self._turn.content is not None or bool(self._turn.calls))

    def _same_turn(self) -> _Turn:
        if self._turn is None:
            self._turn = _Turn()
        return self._turn

    def _new_turn(self) -> _Turn:
        self.close()
        return self._same_turn()


def _typed(item: dict[str, Any], where: str) -> Item:
    name = item.get("type", "message")
    kind = ITEMS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise BadRequest(
            f"'{where}.type' is not supported by this server, which knows {', '.join(ITEMS)}.",
            param=f"{where}.type",
            code="unsupported_value",
        )
    return convert(item, kind, where)


def _text(content: str | list[Part], where: str, kinds: set[str] = _TEXTS) -> str:
    if isinstance(content, str):
        return content
    return "".join(_part(part, f"{where}[{index}]", kinds) for index, part in enumerate(content))


def _part(part: Part, where: str, kinds: set[str]) -> str:
    if part.type in kinds and part.text is not None:
        return part.text
    if part.type == "refusal" and part.refusal is not None:
        return part.refusal
    raise BadRequest(
        f"'{where}' is not supported by this server; send text.", param=f"{where}.type", code="unsupported_value"
    )
