"""What adapters add to a layer on a processor, held to plain products token by token; no engine is needed."""

from typing import Any

import pytest
import torch

pytestmark = [pytest.mark.e2e, pytest.mark.filterwarnings("ignore::DeprecationWarning")]  # vLLM's own, at its import

INPUTS, OUTPUTS, RANK, ADAPTERS = 64, (48, 16, 16), 8, (11, 12, 13, 14)
BASE = 0


class Layer:
    """A layer's four adapters, as vLLM stacks them, and a step's tokens."""

    def __init__(self, dtype: torch.dtype) -> None:
        torch.manual_seed(0)
        self.dtype = dtype
        self.a = tuple(torch.randn(len(ADAPTERS), 1, RANK, INPUTS).to(dtype) for _ in OUTPUTS)
        self.b = tuple(torch.randn(len(ADAPTERS), 1, outputs, RANK).to(dtype) for outputs in OUTPUTS)

    def step(self, tokens: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """What the engine's products add to each token, and what they are to add."""
        from vllm.lora.layers import LoRAMapping  # noqa: PLC0415 - heavy

        from services.server.engine.processor.products import AdapterProducts  # noqa: PLC0415

        products: Any = AdapterProducts(64, 64, "cpu")
        products.update_metadata(
            LoRAMapping(tuple(tokens), tuple(tokens), is_prefill=True), list(ADAPTERS), len(ADAPTERS) + 1, 100
        )
        x = torch.randn(len(tokens), INPUTS).to(self.dtype)
        y = torch.zeros(len(tokens), sum(OUTPUTS), dtype=self.dtype)
        products.add_lora_linear(y, x, self.a, self.b, 0.5, OUTPUTS)
        return y, torch.stack([self._own(row, token) for row, token in zip(x, tokens, strict=True)])

    def _own(self, x: torch.Tensor, token: int) -> torch.Tensor:
        if token == BASE:
            return torch.zeros(sum(OUTPUTS), dtype=self.dtype)
        place = ADAPTERS.index(token)
        return torch.cat([0.5 * (b[place, 0] @ (a[place, 0] @ x)) for a, b in zip(self.a, self.b, strict=True)])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "tokens",
    [
        pytest.param([12], id="one answer"),
        pytest.param([14] * 20, id="a prompt"),
        pytest.param([11, 14, 11, 13, 12, 14], id="answers of all adapters"),
        pytest.param([11, 11, BASE, BASE, 14, BASE, 11], id="the base among them"),
        pytest.param([BASE] * 5, id="the base alone"),
    ],
)
def test_each_token_gets_its_own_adapter_and_the_base_none(tokens: list[int], dtype: torch.dtype) -> None:
    """However they lie in a step; the base's are left alone also where every place has an adapter."""
    added, wanted = Layer(dtype).step(tokens)
    tolerance = 1e-4 if dtype is torch.float32 else 0.02 * float(wanted.abs().max())
    torch.testing.assert_close(added, wanted, atol=tolerance, rtol=1e-2)
    assert not added[[place for place, token in enumerate(tokens) if token == BASE]].any()
