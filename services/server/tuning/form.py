"""A form with a file in it, as it arrives."""

from pathlib import Path
from typing import BinaryIO

from multipart import MultipartSegment

from services.server.errors import BadRequest
from services.server.tuning.house import off_loop

FIELDS = ("purpose", "expires_after[anchor]", "expires_after[seconds]")
_FIELD_BYTES = 256
_BUFFER = 1 << 20
_ROWS = "rows.jsonl"  # where the client's own name cannot be printed


class Form:
    """A form as it arrives: small fields in memory, the file on disk.

    Args:
        folder: of its own.

    Attributes:
        fields: the fields that are known, by name.
        filename: what the client calls the file.
        content: the file; None where the form has none.
    """

    def __init__(self, folder: Path) -> None:
        self.fields: dict[str, str] = {}
        self.filename = _ROWS
        self.content: Path | None = None
        self._folder = folder
        self._stream: BinaryIO | None = None
        self._in_file = False
        self._waiting = bytearray()
        self._name = ""
        self._value = bytearray()

    def take(self, event: MultipartSegment | bytes | bytearray | None) -> None:
        """Take in what the parser found: the head of a field, a piece of it, or its end.

        Raises:
            BadRequest: a field that is not known, or too long.
        """
        if isinstance(event, MultipartSegment):
            self._begin(event)
        elif event is None:
            if not self._in_file:
                self.fields[self._name] = self._value.decode("utf-8", "replace")
        elif self._in_file:
            self._waiting += event
        else:
            self._value += event
            if len(self._value) > _FIELD_BYTES:
                raise BadRequest(f"Invalid '{self._name}': too long.", param=self._name, code="invalid_value")

    def _begin(self, segment: MultipartSegment) -> None:
        self._name, self._in_file = segment.name, segment.name == "file"
        self._value.clear()
        if self._in_file:
            if self.content is not None:
                raise BadRequest("Invalid 'file': send one file.", param="file", code="invalid_value")
            self.filename = _printable(segment.filename)
            self.content = self._folder / _ROWS
            self._stream = self.content.open("wb")
        elif segment.name not in FIELDS:
            name = segment.name[:80]
            raise BadRequest(f"Unrecognized request argument supplied: {name}", param=name, code="unknown_parameter")

    async def flush(self, *, everything: bool = False) -> None:
        """Write what waits, once it is worth a write."""
        if self._stream is not None and (everything or len(self._waiting) >= _BUFFER):
            waiting, self._waiting = self._waiting, bytearray()
            await off_loop(self._stream.write, waiting)
            if everything:
                await off_loop(self._stream.flush)

    def close(self) -> None:
        """Close the file."""
        if self._stream is not None:
            self._stream.close()


def _printable(name: str | None) -> str:
    shown = "".join(letter for letter in (name or "").rpartition("/")[2] if letter.isprintable())[:255]
    return shown or _ROWS
