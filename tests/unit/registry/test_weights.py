"""An adapter's matrices fit the base model, and no file is larger than that allows: told by the header, before anything is hashed."""

import json
import os
import struct
import time
from pathlib import Path

import pytest

from services.registry.check import check_version
from services.registry.errors import VersionRefused
from services.registry.layout import ADAPTER_WEIGHTS, MANIFEST, Registry
from services.registry.weights import BaseShapes, check_weights
from tests.support.adapters import Q_PROJ, SHAPES, publish_adapter, safetensors
from tests.unit.registry.test_check import EXPECTED

Change = tuple[int, int]  # [out, in]


def matrices(changes: dict[str, Change], *, rank: int = 2) -> dict[str, tuple[int, ...]]:
    """Shapes of both matrices of each module, by the tensors' names."""
    shapes: dict[str, tuple[int, ...]] = {}
    for module, (out, inward) in changes.items():
        shapes[f"base_model.model.{module}.lora_A.weight"] = (rank, inward)
        shapes[f"base_model.model.{module}.lora_B.weight"] = (out, rank)
    return shapes


def refusal(tmp_path: Path, shapes: dict[str, tuple[int, ...]], base: BaseShapes = SHAPES) -> str:
    """Why a file of these tensors is refused; empty where it passes."""
    file = tmp_path / ADAPTER_WEIGHTS
    file.write_bytes(safetensors(shapes))
    try:
        check_weights("acme@1", file, rank=2, base=base)
    except VersionRefused as refused:
        return str(refused)
    return ""


@pytest.mark.parametrize("change", [(4, 5), (5, 4), (4, 3), (3, 4), (8, 4)])
def test_a_matrix_of_another_width_is_refused_with_both_shapes(tmp_path: Path, change: Change) -> None:
    """Wider ones fail in the engine, narrower ones it takes without a word; the message names module, shape found and shape wanted."""
    assert refusal(tmp_path, matrices({Q_PROJ: (4, 4)})) == ""
    reason = refusal(tmp_path, matrices({Q_PROJ: change}))
    assert f"{Q_PROJ} is changed by {list(change)}, the base model's is [4, 4]" in reason


def test_a_module_is_held_against_its_namesakes_where_the_files_have_other_paths(tmp_path: Path) -> None:
    """A model in memory may have other paths than its files; each of its own shapes passes, their mixture does not."""
    base = BaseShapes(modules={"text.0.q_proj": (4, 4), "vision.0.q_proj": (6, 8)}, widest=8, tensors=9)
    assert refusal(tmp_path, matrices({"model.text.0.q_proj": (4, 4), "model.vision.0.q_proj": (6, 8)}), base) == ""
    reason = refusal(tmp_path, matrices({"model.text.0.q_proj": (4, 8)}), base)
    assert "changed by [4, 8], the base model's is [4, 4] or [6, 8]" in reason
    assert "the base model's is [4, 4]" in refusal(tmp_path, matrices({"text.0.q_proj": (6, 8)}), base)


def test_a_module_of_unknown_shape_is_no_wider_than_anything_in_the_base(tmp_path: Path) -> None:
    """A packed weight does not tell its shape: what is good passes all the same, and what has no end does not."""
    assert refusal(tmp_path, matrices({"model.layers.0.mlp.packed_proj": (8, 4)})) == ""
    reason = refusal(tmp_path, matrices({"model.layers.0.mlp.packed_proj": (4, 9)}))
    assert "packed_proj is changed by [4, 9], the base model has nothing wider than 8" in reason


def test_more_modules_than_the_base_has_tensors_are_refused(tmp_path: Path) -> None:
    """Each of them fits; by their number alone the file would have no bound."""
    reason = refusal(tmp_path, matrices({f"model.layers.{number}.q_proj": (4, 4) for number in range(3)}))
    assert "adapts 3 modules, the base model has 2 tensors" in reason


@pytest.mark.parametrize("matrix", ["A", "B"])
def test_a_matrix_without_the_other_is_refused(tmp_path: Path, matrix: str) -> None:
    """One alone changes nothing that could be worked out."""
    shapes = {name: shape for name, shape in matrices({Q_PROJ: (4, 4)}).items() if f"lora_{matrix}" in name}
    assert f"{Q_PROJ} has one of the matrices lora_A and lora_B without the other" in refusal(tmp_path, shapes)


@pytest.mark.parametrize("name", [ADAPTER_WEIGHTS, "loss.svg", "rows.csv"])
def test_half_a_tebibyte_is_refused_before_it_is_hashed(tmp_path: Path, name: str) -> None:
    """Even where header, size and manifest agree: to hash it takes many minutes, in which no other version is loaded."""
    registry = Registry(tmp_path / "registry")
    publish_adapter(registry)
    folder = registry.folder("acme", 1)
    size = 2**39
    header = {}
    for matrix, shape, begin in (("A", [2, 2**35], 0), ("B", [2**35, 2], 2**38)):
        tensor = {"dtype": "F32", "shape": shape, "data_offsets": [begin, begin + 2**38]}
        header[f"base_model.model.{Q_PROJ}.lora_{matrix}.weight"] = tensor
    encoded = json.dumps(header).encode()
    with (folder / name).open("wb") as file:
        file.write(struct.pack("<Q", len(encoded)) + encoded)
        size += file.tell()
    os.truncate(folder / name, size)
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"][name] = {"size": size, "sha256": "0" * 64}
    (folder / MANIFEST).write_text(json.dumps(manifest))
    begun = time.monotonic()
    with pytest.raises(VersionRefused, match="the base model's is" if name == ADAPTER_WEIGHTS else f"{name}: is over"):
        check_version(registry, "acme", 1, EXPECTED)
    assert time.monotonic() - begun < 2
