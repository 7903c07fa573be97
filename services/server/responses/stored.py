"""A response as it is stored: input items in the form in which OpenAI lists them, and the answer's object."""

from typing import Any

import msgspec

from services.server.chat.frames import Envelope
from services.server.chat.usage import Usage
from services.server.errors import ServerError
from services.server.identity import unguessable
from services.server.keys import Key
from services.server.responses.document import ResponseDocument
from services.server.responses.items import FunctionCall, FunctionCallOutput, InputMessage, Item, Part, ReasoningItem
from services.server.responses.output import Output
from services.server.stored.shelf import Shelf
from services.server.stored.store import StoredResponse

_json = msgspec.json.encode
_PREFIXES = {"message": "msg", "function_call": "fc", "function_call_output": "fco", "reasoning": "rs"}


class ShelfKeeper:
    """Puts one answer on the shelf once it has ended; the document tells from then on whether it is there.

    Args:
        shelf: open.
        key: who asked.
        envelope: the answer's id and time.
        document: of the answer.
        output: of the answer, as it grows.
        previous_id: of the response that the request goes on from.
        items: of the request's input.
        earlier: of the conversation before it.
    """

    def __init__(
        self,
        shelf: Shelf,
        key: Key,
        envelope: Envelope,
        document: ResponseDocument,
        output: Output,
        *,
        previous_id: str | None,
        items: list[Item],
        earlier: list[Item],
    ) -> None:
        self._shelf = shelf
        self._document = document
        self._output = output
        self._response = StoredResponse(
            id=envelope.id,
            owner=key.name,
            previous_id=previous_id,
            created_at=envelope.created,
            input=_json(listed(items, taken={item.id for item in earlier})),
            answer=b"",
        )

    async def ended(self, usage: Usage) -> None:
        """Store a whole answer, or as much as its limit let be."""
        await self._keep(self._document.ended(self._output, usage, logprobs=False))

    async def failed(self, error: ServerError) -> None:
        """Store what there was of an answer."""
        self._output.break_off()
        await self._keep(self._document.failed(self._output, error, logprobs=False))

    async def _keep(self, answer: bytes) -> None:
        self._document.stored = await self._shelf.keep(msgspec.structs.replace(self._response, answer=answer))


def listed(items: list[Item], taken: set[str | None]) -> list[dict[str, Any]]:
    """Input items as OpenAI lists them.

    Args:
        items: as they were sent.
        taken: ids of others in the same conversation, to which these are added: an id is a place in its list, and no two
            items have the same.
    """
    found = []
    for item in items:
        given = item.id if item.id not in taken else None
        identity = given or f"{_PREFIXES[item.type]}_{unguessable()}"
        taken.add(identity)
        status = item.status or "completed"
        found.append({"id": identity, "type": item.type, "status": status, **_content(item)})
    return found


def _content(item: Item) -> dict[str, Any]:
    match item:
        case InputMessage(role="assistant"):
            return {"role": "assistant", "content": _parts(item.content, "output_text")}
        case InputMessage():
            return {"role": item.role, "content": _parts(item.content, "input_text")}
        case FunctionCall():
            return {"call_id": item.call_id, "name": item.name, "arguments": item.arguments}
        case FunctionCallOutput(output=str() as output):
            return {"call_id": item.call_id, "output": output}
        case FunctionCallOutput():
            return {"call_id": item.call_id, "output": _parts(item.output, "input_text")}
        case ReasoningItem():
            content = _parts(item.content or [], "reasoning_text")
            return {"summary": [], "content": content, "encrypted_content": None}


def _parts(content: str | list[Part], kind: str) -> list[dict[str, Any]]:
    """Texts; a refusal of an earlier answer is one of its texts."""
    parts = [content] if isinstance(content, str) else [part.text or part.refusal or "" for part in content]
    more: dict[str, Any] = {"annotations": [], "logprobs": []} if kind == "output_text" else {}
    return [{"type": kind, "text": text, **more} for text in parts]
