"""What replaces layers of the base model computes the same, and is not taken where it would not."""

from typing import Any

import pytest
import torch
from transformers.models.llama import modeling_llama
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from services.trainer.training.packed.flat import FlatWeights
from services.trainer.training.packed.layers import join_layers, rotate_both
from services.trainer.training.packed.lora import join_kernels
from tests.unit.trainer.training.test_packed import TARGETS, model


def gradients(made: Any) -> dict[str, torch.Tensor]:
    """Of every trained weight, after one backward pass."""
    tokens = torch.arange(14).reshape(2, 7)
    made(input_ids=tokens, labels=tokens).loss.backward()
    return {name: weight.grad.clone() for name, weight in made.named_parameters() if weight.requires_grad}


@pytest.mark.parametrize("bias", [False, True])
def test_gradients_are_peft_s(bias: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """Of every A and B, and through the layers below them, whether the base's layers have a bias or not."""
    expected = gradients(model("sdpa", bias=bias))
    joined = model("sdpa", bias=bias)
    flat = FlatWeights(joined)
    assert join_kernels(joined, flat) == []
    assert join_layers(joined) == ["LlamaRMSNorm", "apply_rotary_pos_emb"]
    found = gradients(joined)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "targets", [["q_proj", "v_proj"], ["up_proj"], ["o_proj", "down_proj"], ["k_proj", "gate_proj"]]
)
def test_gradients_are_peft_s_where_only_some_layers_are_trained(targets: list[str]) -> None:
    """Layers without an adapter compute together with those that share their input and have one."""
    expected = gradients(model("sdpa", targets=targets))
    joined = model("sdpa", targets=targets)
    assert join_kernels(joined, FlatWeights(joined)) == []
    found = gradients(joined)
    assert set(found) == set(expected)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-5)


def test_siblings_that_are_given_different_inputs_answer_each_its_own() -> None:
    """A model that does not share the input among queries, keys and values is none the worse."""
    made = model("sdpa")
    attention = made.base_model.model.model.layers[0].self_attn
    inputs = torch.randn(3, 1, 5, 32).unbind()
    expected = [
        layer(x) for layer, x in zip((attention.q_proj, attention.k_proj, attention.v_proj), inputs, strict=True)
    ]
    join_kernels(made, FlatWeights(made))
    for place in (0, 1, 2, 1, 0):
        layer = (attention.q_proj, attention.k_proj, attention.v_proj)[place]
        torch.testing.assert_close(layer(inputs[place]), expected[place])


def test_adapter_switched_off_leaves_the_base() -> None:
    """As PEFT's own layers do."""
    made = model("sdpa")
    tokens = torch.arange(7)[None]
    with made.disable_adapter():
        expected = made(input_ids=tokens).logits
    join_kernels(made, FlatWeights(made))
    with made.disable_adapter():
        torch.testing.assert_close(made(input_ids=tokens).logits, expected)


def test_layers_with_dropout_stay_as_they_are() -> None:
    """They draw by chance, which this way does not."""
    made = model("sdpa", dropout=0.1)
    assert len(join_kernels(made, FlatWeights(made))) == 2 * len(TARGETS)


class Doubled(LlamaRMSNorm):  # type: ignore[misc]  # transformers is not typed for mypy
    """A norm that does something else, by a name that says it does not."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Twice as much."""
        doubled: torch.Tensor = 2 * super().forward(x)
        return doubled


def test_layers_that_compute_something_else_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name is not enough: the values decide."""
    own = modeling_llama.apply_rotary_pos_emb
    monkeypatch.setattr(modeling_llama, "apply_rotary_pos_emb", lambda q, k, cos, sin: own(k, q, cos, sin))
    odd = modeling_llama.apply_rotary_pos_emb
    made = model("sdpa")
    made.base_model.model.model.norm = norm = Doubled(32)
    assert join_layers(made) == ["LlamaRMSNorm"]
    assert modeling_llama.apply_rotary_pos_emb is odd
    torch.testing.assert_close(norm(torch.ones(1, 32)), torch.full((1, 32), 2.0))


def test_rotation_and_its_gradient_are_transformers_own() -> None:
    """Of queries and keys with different numbers of heads."""
    q, k = torch.randn(1, 4, 9, 16, requires_grad=True), torch.randn(1, 2, 9, 16, requires_grad=True)
    angles = torch.randn(1, 9, 8).repeat(1, 1, 2)
    expected = modeling_llama.apply_rotary_pos_emb(q, k, angles.cos(), angles.sin())
    found = rotate_both(q, k, angles.cos(), angles.sin())
    grads = [torch.randn_like(each) for each in expected]
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad(found, (q, k), grads), torch.autograd.grad(expected, (q, k), grads))


def test_weights_used_together_must_lie_together() -> None:
    """One view cannot hold two places."""
    made = model("sdpa")
    flat = FlatWeights(made)
    weights = [weight for name, weight in made.named_parameters() if "lora_A" in name]
    assert flat.gradient_of(*weights[:3]).shape == (12, 32)
    with pytest.raises(ValueError, match="lie apart"):
        flat.gradient_of(weights[0], weights[2])


def test_arithmetic_in_bfloat16_sees_the_weights_as_they_are_now() -> None:
    """Rounded anew for each pass; a pass's gradient is added to the update's in float32."""
    made = model("sdpa").to(torch.bfloat16)
    for weight in made.parameters():
        if weight.requires_grad:
            weight.data = weight.data.float()
    flat = FlatWeights(made, torch.bfloat16)
    weight = next(parameter for name, parameter in made.named_parameters() if "lora_A" in name)
    gradient, place = (
        flat.gradient_of(weight),
        torch.zeros(weight.shape[0], 40, dtype=torch.bfloat16)[:, : weight.shape[1]],
    )
    assert gradient.dtype is torch.bfloat16
    flat.write(weight, place)
    torch.testing.assert_close(place.float(), weight.detach(), rtol=1e-2, atol=1e-2)
    with torch.no_grad():
        flat.weights.add_(1.0)
    flat.refresh()
    torch.testing.assert_close(place.float(), weight.detach(), rtol=1e-2, atol=1e-2)
    for _ in range(2):
        flat.refresh()
        gradient.fill_(0.5)
        flat.add_up()
    torch.testing.assert_close(weight.grad, torch.ones_like(weight))
