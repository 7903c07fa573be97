"""What a base model's files say of its weights is what its adapters have, in every family that is likely to be served."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

from services.base_model.errors import BaseModelError
from services.base_model.shapes import read_shapes
from services.registry.errors import VersionRefused
from services.registry.layout import ADAPTER_WEIGHTS
from services.registry.tensors import read_header
from services.registry.weights import BaseShapes, check_weights
from tests.support.adapters import safetensors

SEVEN = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
TINY = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 12,  # not hidden_size / num_attention_heads
    "pad_token_id": 0,
}
EXPERTS = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 20,
    "shared_expert_intermediate_size": 28,
}


def save(folder: Path, family: str, targets: list[str], **more: Any) -> BaseShapes:
    """A tiny model of a family and PEFT's adapter for it; the shapes that its files tell."""
    torch.manual_seed(1)
    model: Any = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **TINY, **more))
    model.save_pretrained(folder / "base", max_shard_size="10KB")
    get_peft_model(model, LoraConfig(r=2, target_modules=targets)).save_pretrained(folder)
    return read_shapes(folder / "base")


@pytest.mark.parametrize(
    ("family", "targets", "more"),
    [
        ("qwen2", SEVEN, {}),
        ("qwen3", SEVEN, {}),
        ("llama", SEVEN, {}),
        ("mistral", SEVEN, {}),
        ("gemma2", SEVEN, {}),
        ("gemma3_text", SEVEN, {}),
        ("phi3", ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"], {}),
        ("qwen2_moe", SEVEN, EXPERTS),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_adapter_of_every_family_fits(tmp_path: Path, family: str, targets: list[str], more: dict[str, Any]) -> None:
    """What PEFT writes passes, and none of its matrices with a side more or less does."""
    base = save(tmp_path, family, targets, **more)
    file = tmp_path / ADAPTER_WEIGHTS
    check_weights("acme@1", file, rank=2, base=base)
    with file.open("rb") as stream:
        shapes = {name: tuple(tensor.shape) for name, tensor in read_header(stream, most=2**20).tensors.items()}
    for name, shape in shapes.items():
        for by in (1, -1):
            other = tuple(side if side == 2 else side + by for side in shape)
            file.write_bytes(safetensors(shapes | {name: other}))
            with pytest.raises(VersionRefused, match="is changed by"):
                check_weights("acme@1", file, rank=2, base=base)


def test_packed_weights_do_not_tell_a_shape(tmp_path: Path) -> None:
    """Eight values lie in an element of a 4-bit weight: its sides are not the module's, and not the model's widest."""
    packed = safetensors({"model.layers.0.q_proj.weight": (72, 1)}, dtype="U8")
    (tmp_path / "model-1.safetensors").write_bytes(packed)
    (tmp_path / "model-2.safetensors").write_bytes(safetensors({"embed_tokens.weight": (16, 4), "norm.weight": (4,)}))
    assert read_shapes(tmp_path) == BaseShapes(
        modules={"embed_tokens": (16, 4)}, packed=frozenset({"q_proj"}), widest=16, tensors=3
    )


def test_a_packed_module_is_not_held_against_a_namesake_that_is_not(tmp_path: Path) -> None:
    """Such as that of a picture's encoder, which is left as it was where the language model is packed."""
    packed = safetensors({"language.0.q_proj.weight": (72, 1)}, dtype="U8")
    (tmp_path / "model-1.safetensors").write_bytes(packed)
    others = safetensors({"vision.0.q_proj.weight": (6, 8), "embed_tokens.weight": (16, 4)})
    (tmp_path / "model-2.safetensors").write_bytes(others)
    base = read_shapes(tmp_path)
    assert (base.of("language.0.q_proj"), base.of("vision.0.q_proj")) == ([], [(6, 8)])


def test_weights_may_be_links(tmp_path: Path) -> None:
    """As the Hub's own cache has them."""
    (tmp_path / "blob").write_bytes(safetensors({"a.q_proj.weight": (4, 4)}))
    (tmp_path / "model.safetensors").symlink_to("blob")
    assert read_shapes(tmp_path).of("a.q_proj") == [(4, 4)]


@pytest.mark.parametrize("content", [None, b"", json.dumps({}).encode(), safetensors({"w.weight": (2, 2)}, dtype="U8")])
def test_weights_that_tell_nothing_are_an_error_with_the_remedy(tmp_path: Path, content: bytes | None) -> None:
    """A server that could not tell a good adapter from a bad one does not start."""
    if content is not None:
        (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(BaseModelError, match="make model"):
        read_shapes(tmp_path)
