"""The header of a safetensors file, read by hand and within limits before any library opens the file.

Format: 8 bytes little-endian header length, that many bytes of JSON, then the tensors
(https://github.com/huggingface/safetensors#format).
"""

import os
from io import BufferedReader
from typing import Annotated

import msgspec

_LENGTH_BYTES = 8

# As the format has them. Of more digits than Python writes out, a sum of two could not even be refused in words.
_Size = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class Tensor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One tensor of a file: where it lies, counted from the header's end, and how it is to be read."""

    dtype: str
    shape: list[_Size]
    data_offsets: tuple[_Size, _Size]


class Header(msgspec.Struct, frozen=True):
    """What a file says of itself.

    Attributes:
        tensors: by name.
        end: bytes of the file before the first tensor.
        file_size: bytes of the whole file.
    """

    tensors: dict[str, Tensor]
    end: int
    file_size: int


def read_header(stream: BufferedReader, *, most: int) -> Header:
    """Read the header of an open file; what it says of the tensors' places is not checked.

    Args:
        stream: at its beginning.
        most: bytes of a header; a longer one is not read.

    Raises:
        ValueError: it is longer, or no header; the message goes on a sentence that begins with the file's name.
    """
    size = os.fstat(stream.fileno()).st_size
    length = int.from_bytes(stream.read(_LENGTH_BYTES), "little")
    if not len(b"{}") <= length <= min(most, size - _LENGTH_BYTES):
        raise ValueError(f"a header of {length} bytes in a file of {size}")
    try:
        header = msgspec.json.decode(stream.read(length), type=dict[str, msgspec.Raw])
        # Nothing here needs it, but the engine's library reads it.
        msgspec.json.decode(header.pop("__metadata__", b"{}"), type=dict[str, str])
        tensors = {key: msgspec.json.decode(value, type=Tensor) for key, value in header.items()}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"its header cannot be read: {error}") from error
    return Header(tensors=tensors, end=_LENGTH_BYTES + length, file_size=size)
