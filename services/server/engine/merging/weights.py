"""A base model's weights with an adapter's product added: W + alpha / r * B A (Hu et al. 2021, equation 3).

Read from the files of both, which are safetensors and were checked before; nothing is kept, so that the pristine weights are the files'.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import safe_open

from services.registry.layout import ADAPTER_CONFIG, ADAPTER_WEIGHTS

_PREFIX = "base_model.model."


def merged_weights(base: Path, adapter: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor of the base model by its name; what the adapter changes is in float32, and rounded once by whoever takes it.

    Args:
        base: the base model's folder.
        adapter: a version's folder.

    Raises:
        ValueError: the adapter changes what the base model has not.
    """
    config = json.loads((adapter / ADAPTER_CONFIG).read_bytes())
    rank, alpha = config["r"], config["lora_alpha"]
    scale = alpha / rank**0.5 if config.get("use_rslora") else alpha / rank
    with safe_open(adapter / ADAPTER_WEIGHTS, framework="pt") as lora:
        names: list[str] = lora.keys()
        changed = {name.removeprefix(_PREFIX).removesuffix(".lora_A.weight") for name in names if ".lora_A." in name}
        for file in sorted(base.glob("*.safetensors")):
            with safe_open(file, framework="pt") as weights:
                names = weights.keys()
                for name in names:
                    weight, module = weights.get_tensor(name), name.removesuffix(".weight")
                    if module in changed:
                        changed.discard(module)
                        down = lora.get_tensor(f"{_PREFIX}{module}.lora_A.weight").float()  # [r, in]
                        up = lora.get_tensor(f"{_PREFIX}{module}.lora_B.weight").float()  # [out, r]
                        weight = torch.addmm(weight.float(), up, down, alpha=scale)
                    yield name, weight
    if changed:
        raise ValueError(f"it changes {min(changed)} and {len(changed) - 1} more, which the base model has not")
