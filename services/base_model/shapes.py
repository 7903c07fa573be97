"""The shapes of a base model's weights, from the headers of its files: what an adapter's matrices must fit (docs/decisions/0120)."""

from pathlib import Path

from services.base_model.errors import BaseModelError
from services.base_model.identity import REMEDY, WEIGHTS_SUFFIX
from services.registry.tensors import Tensor, read_header
from services.registry.weights import BaseShapes

_MAX_HEADER_BYTES = 100_000_000  # as the format's own library has it
_WEIGHT = ".weight"
# A value an element. Others (U8, I32) hold several, so that their shape is not the module's.
_UNPACKED = frozenset({"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", "I8"})


def read_shapes(folder: Path) -> BaseShapes:
    """What the weights in ``folder`` say of themselves; no tensor is read.

    Raises:
        BaseModelError: there are none, or a header cannot be read.
    """
    tensors: dict[str, Tensor] = {}
    for file in sorted(folder.glob(f"*{WEIGHTS_SUFFIX}")):
        try:
            with file.open("rb") as stream:  # a link, too: what it leads to has the base model's fingerprint
                tensors |= read_header(stream, most=_MAX_HEADER_BYTES).tensors
        except OSError as error:
            raise BaseModelError(f"{file}: {error.strerror}; {REMEDY}") from error
        except ValueError as error:
            raise BaseModelError(f"{file}: {error}; {REMEDY}") from error
    unpacked = {name: tensor.shape for name, tensor in tensors.items() if tensor.dtype in _UNPACKED}
    if not unpacked:
        raise BaseModelError(f"{folder}: no weights whose shape can be told; {REMEDY}")
    return BaseShapes(
        modules={
            name.removesuffix(_WEIGHT): (shape[0], shape[1])
            for name, shape in unpacked.items()
            if name.endswith(_WEIGHT) and len(shape) == 2  # noqa: PLR2004 - a matrix: norms have one side, convolutions more
        },
        packed=frozenset(
            name.removesuffix(_WEIGHT).rpartition(".")[2]
            for name in tensors.keys() - unpacked.keys()
            if name.endswith(_WEIGHT)
        ),
        widest=max((side for shape in unpacked.values() for side in shape), default=0),
        tensors=len(tensors),
    )
