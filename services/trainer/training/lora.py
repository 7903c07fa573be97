"""The adapter in PEFT's words."""

from pathlib import Path
from typing import Any

import msgspec
from peft import LoraConfig, PeftModel, PeftModelForCausalLM

from services.registry.layout import ADAPTER_CONFIG
from services.trainer.settings import LoraSettings

# Of a written configuration what says where it was made, and not what is computed.
_ORIGIN = frozenset({"base_model_name_or_path", "revision", "auto_mapping", "peft_version"})


def lora_of(lora: LoraSettings, *, trained: bool = True) -> LoraConfig:
    """What PEFT makes an adapter of; not ``trained`` further, as of one that is loaded to be used."""
    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.target_modules),
        bias="none",
        task_type="CAUSAL_LM",
        inference_mode=not trained,
    )


def lay_out(model: Any, lora: LoraSettings) -> PeftModel:
    """Do the first half of PEFT's load, which needs no file of the adapter's: its layers, on ``model``."""
    return PeftModelForCausalLM(model, lora_of(lora, trained=False)).eval()


def load_adapter(model: Any, lora: LoraSettings | None, folder: Path) -> PeftModel:
    """Do what ``PeftModel.from_pretrained`` does, or what is left of it.

    Args:
        model: a base model; where ``lora`` is given, what ``lay_out`` made of one and of that.
        lora: what is laid out; an adapter that computes otherwise is loaded from the beginning.
        folder: an adapter's.
    """
    if lora is not None:
        if _is_laid_out(lora, folder):
            renamed = getattr(model.get_base_model(), "_checkpoint_conversion_mapping", {})
            model.load_adapter(str(folder), "default", is_trainable=False, key_mapping=renamed)
            return model
        model = model.unload()
    return PeftModel.from_pretrained(model, str(folder), is_trainable=False)


def _is_laid_out(lora: LoraSettings, folder: Path) -> bool:
    """Whether an adapter has the layers and the arithmetic that ``lora`` says."""
    written = msgspec.json.decode((folder / ADAPTER_CONFIG).read_bytes(), type=dict[str, Any])
    try:
        found = LoraConfig(**written).to_dict()
    except (TypeError, ValueError):
        return False  # another kind of adapter, or another release's
    ours = lora_of(lora, trained=False).to_dict()
    return all(found.get(name) == ours.get(name) for name in (found.keys() | ours.keys()) - _ORIGIN)
