"""From what PEFT or Unsloth wrote to what a version holds: three files, nothing of this machine in them."""

import shutil
from pathlib import Path

import msgspec

from services.registry.layout import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from services.trainer.settings import LoraSettings
from services.trainer.training.job import TrainingFailed


def collect(written: Path, staged: Path, *, base_name: str, lora: LoraSettings, loss_curve: Path) -> None:
    """Copy weights, configuration and loss curve into a staged version.

    ``base_model_name_or_path`` becomes the base's name: PEFT writes the path of the folder it was loaded from there,
    Unsloth the name of a quantised repository. ``auto_mapping`` names classes to import and goes.

    Raises:
        TrainingFailed: the adapter was not written as the recipe says.
    """
    config = msgspec.json.decode((written / ADAPTER_CONFIG).read_bytes(), type=dict[str, object])
    if config.get("r") != lora.rank or config.get("lora_alpha") != lora.alpha:
        raise TrainingFailed(
            f"the backend wrote rank {config.get('r')}, alpha {config.get('lora_alpha')}; the recipe says {lora.rank}, {lora.alpha}"
        )
    config |= {
        "base_model_name_or_path": base_name,
        "revision": None,
        "auto_mapping": None,
        "inference_mode": True,
        "target_modules": sorted(lora.target_modules),
    }
    content = msgspec.json.format(msgspec.json.encode(config, order="sorted"), indent=2) + b"\n"
    (staged / ADAPTER_CONFIG).write_bytes(content)
    shutil.copyfile(written / ADAPTER_WEIGHTS, staged / ADAPTER_WEIGHTS)
    shutil.copyfile(loss_curve, staged / loss_curve.name)
