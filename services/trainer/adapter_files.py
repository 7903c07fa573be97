"""From what PEFT or Unsloth wrote to what a version holds: three files, nothing of this machine in them."""

import shutil
from pathlib import Path

import msgspec

from services.base_model.shapes import read_shapes
from services.registry.errors import VersionRefused
from services.registry.layout import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from services.registry.weights import check_weights
from services.trainer.settings import LoraSettings
from services.trainer.training.job import TrainingFailed


def collect(written: Path, staged: Path, *, base_folder: Path, lora: LoraSettings, loss_curve: Path) -> None:
    """Copy weights, configuration and loss curve into a staged version.

    ``base_model_name_or_path`` becomes the base's name: PEFT writes the path of the folder it was loaded from there,
    Unsloth the name of a quantised repository. ``auto_mapping`` names classes to import and goes.

    Raises:
        TrainingFailed: the adapter was not written as the recipe says, or is one that no server would take.
        BaseModelError: the base model's weights cannot be read.
    """
    config = msgspec.json.decode((written / ADAPTER_CONFIG).read_bytes(), type=dict[str, object])
    if config.get("r") != lora.rank or config.get("lora_alpha") != lora.alpha:
        raise TrainingFailed(
            f"the backend wrote rank {config.get('r')}, alpha {config.get('lora_alpha')}; the recipe says {lora.rank}, {lora.alpha}"
        )
    try:
        check_weights("the adapter", written / ADAPTER_WEIGHTS, rank=lora.rank, base=read_shapes(base_folder))
    except VersionRefused as error:
        raise TrainingFailed(f"the backend wrote what no server takes: {error}") from error
    config |= {
        "base_model_name_or_path": base_folder.name,
        "revision": None,
        "auto_mapping": None,
        "inference_mode": True,
        "target_modules": sorted(lora.target_modules),
    }
    content = msgspec.json.format(msgspec.json.encode(config, order="sorted"), indent=2) + b"\n"
    (staged / ADAPTER_CONFIG).write_bytes(content)
    shutil.copyfile(written / ADAPTER_WEIGHTS, staged / ADAPTER_WEIGHTS)
    shutil.copyfile(loss_curve, staged / loss_curve.name)
