"""An adapter's weights, held against the base model's: matrices of a LoRA, each as wide as what it changes, and nothing besides."""

import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

from services.registry.errors import VersionRefused
from services.registry.files import open_regular
from services.registry.tensors import Header, Tensor, read_header

MAX_HEADER_BYTES = 16 * 1024 * 1024
_LORA_TENSOR = re.compile(r"base_model\.model\.([A-Za-z0-9_.]+)\.lora_(A|B)\.weight")
_DTYPE_BYTES = {"F32": 4, "F16": 2, "BF16": 2}

Shape = tuple[int, int]


class BaseShapes(msgspec.Struct, frozen=True, kw_only=True):
    """What the base model's own files say of its weights.

    Attributes:
        modules: shape of a module's weight, [out, in], by its path; without those that are stored packed.
        packed: last names of those that are.
        widest: the longest side of any tensor that is not packed.
        tensors: how many there are; packed ones, too.
    """

    modules: dict[str, Shape]
    packed: frozenset[str] = frozenset()
    widest: int
    tensors: int

    def of(self, module: str) -> list[Shape]:
        """What a module's weight may be; none where its name is nowhere, or a namesake is packed.

        That is its own shape, or those of its namesakes where the model in memory has other paths than its files.
        """
        if module in self.modules:
            return [self.modules[module]]
        own = module.rpartition(".")[2]
        if own in self.packed:
            return []
        return sorted({shape for path, shape in self.modules.items() if path.rpartition(".")[2] == own})


def check_weights(name: str, file: Path, *, rank: int, base: BaseShapes) -> None:
    """Check a safetensors file by its header alone: names, types, shapes, that the tensors tile the file and fit the base model.

    So a file is no larger than base and rank allow before a byte of its tensors is read.

    Args:
        name: of the version, for what is said.
        file: adapter_model.safetensors.
        rank: of every matrix.
        base: of the model that is adapted.

    Raises:
        VersionRefused: with the reason.
        OSError: it cannot be read.
    """
    try:
        with open_regular(file) as stream:
            header = read_header(stream, most=MAX_HEADER_BYTES)
    except ValueError as error:
        raise VersionRefused(f"{name}: {file.name}: {error}") from error
    try:
        _check_fit(_changes(header, rank), base)
    except ValueError as error:
        raise VersionRefused(f"{name}: {file.name}{error}") from error


def _changes(header: Header, rank: int) -> dict[str, Shape]:
    """What the matrices make together, [out, in], by module, after refusing what is no LoRA of this rank.

    Raises:
        ValueError: with the reason.
    """
    if not header.tensors:
        raise ValueError(" holds no tensor")
    sides: dict[str, dict[str, int]] = {}
    end = 0
    for key, tensor in sorted(header.tensors.items(), key=lambda item: item[1].data_offsets):
        found = _LORA_TENSOR.fullmatch(key)
        if not found:
            raise ValueError(f": {key[:100]!r} is not a LoRA matrix")
        module, matrix = found.groups()
        sides.setdefault(module, {})[matrix] = _side(key, tensor, rank, down=matrix == "A")
        if tensor.data_offsets != (end, end + tensor.shape[0] * tensor.shape[1] * _DTYPE_BYTES[tensor.dtype]):
            raise ValueError(f": {key} does not lie where its shape says")
        end = tensor.data_offsets[1]
    if header.end + end != header.file_size:
        raise ValueError(f" has {header.file_size} bytes, its header describes {header.end + end}")
    for module, both in sides.items():
        if len(both) == 1:
            raise ValueError(f": {module} has one of the matrices lora_A and lora_B without the other")
    return {module: (both["B"], both["A"]) for module, both in sides.items()}


def _side(key: str, tensor: Tensor, rank: int, *, down: bool) -> int:
    """The side of a matrix that is not the rank: lora_A is [rank, in], lora_B [out, rank]."""
    if tensor.dtype not in _DTYPE_BYTES or len(tensor.shape) != 2 or min(tensor.shape) < 1:  # noqa: PLR2004 - a matrix
        raise ValueError(f": {key} is {tensor.dtype} of shape {tensor.shape}")
    if tensor.shape[0 if down else 1] != rank:
        raise ValueError(f": {key} has shape {tensor.shape}, not of rank {rank}")
    return tensor.shape[1 if down else 0]


def _check_fit(changes: Mapping[str, Shape], base: BaseShapes) -> None:
    """Refuse what does not fit the base model.

    Raises:
        ValueError: with the module, the shape that its matrices make and the base's.
    """
    if len(changes) > base.tensors:
        raise ValueError(f" adapts {len(changes)} modules, the base model has {base.tensors} tensors")
    known: dict[str, list[Shape]] = {}
    for module, shape in changes.items():
        own = module if module in base.modules else module.rpartition(".")[2]
        if own not in known:
            known[own] = base.of(module)
        if known[own] and shape not in known[own]:
            wanted = " or ".join(str(list(one)) for one in known[own])
            raise ValueError(f": {module} is changed by {list(shape)}, the base model's is {wanted}")
        if not known[own] and max(shape) > base.widest:
            raise ValueError(
                f": {module} is changed by {list(shape)}, the base model has nothing wider than {base.widest}"
            )
