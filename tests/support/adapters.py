"""Adapters made by hand for tests that are not about training: real safetensors files, real configurations."""

import json
import struct
from pathlib import Path
from typing import Any

import msgspec

from services.registry.layout import ADAPTER_CONFIG, ADAPTER_WEIGHTS, Registry, model_name
from services.registry.manifest import BaseReference, LoraFacts, Manifest, ProbePrompt
from services.registry.publish import Lineage, publish, staging
from services.registry.reports import Judgement, manifest_hash, write_report
from services.registry.weights import BaseShapes

BASE = BaseReference(name="tiny-base", fingerprint="f" * 64, chat_template_sha256="c" * 64)
Q_PROJ = "model.layers.0.self_attn.q_proj"
SHAPES = BaseShapes(modules={Q_PROJ: (4, 4)}, widest=8, tensors=2)


def lineage(*, rank: int = 2, base: BaseReference = BASE) -> Lineage:
    """What a trainer would know about an adapter made by ``write_adapter``."""
    return Lineage(
        base=base,
        lora=LoraFacts(rank=rank, alpha=4.0, target_modules=["q_proj"]),
        probe=[ProbePrompt(token_ids=[1, 2, 3], base_logprobs=[-1.0, -2.0], adapter_logprobs=[-0.5, -1.5])],
        dataset={"rows": 1},
        recipe={},
        packages={},
        metrics={"train_loss": 0.5},
    )


def write_adapter(folder: Path, *, rank: int = 2, width: int = 4, fill: float = 0.5, **config: object) -> None:
    """Write adapter_config.json and adapter_model.safetensors of one module; ``config`` overrides keys."""
    settings = {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": 4,
        "target_modules": ["q_proj"],
        "bias": "none",
        "base_model_name_or_path": "tiny-base",
    }
    (folder / ADAPTER_CONFIG).write_text(json.dumps(settings | config), encoding="utf-8")
    (folder / ADAPTER_WEIGHTS).write_bytes(weights(rank=rank, width=width, fill=fill))


def weights(*, rank: int = 2, width: int = 4, fill: float = 0.5) -> bytes:
    """The adapter_model.safetensors that ``write_adapter`` writes."""
    stem = f"base_model.model.{Q_PROJ}"
    return safetensors({f"{stem}.lora_A.weight": (rank, width), f"{stem}.lora_B.weight": (width, rank)}, fill=fill)


def base_weights(*, fill: float = 0.5) -> bytes:
    """The model.safetensors of a base model that ``SHAPES`` are those of, but for what it has besides."""
    return safetensors({f"{Q_PROJ}.weight": (4, 4), "model.embed_tokens.weight": (8, 4)}, fill=fill)


def safetensors(shapes: dict[str, tuple[int, ...]], *, fill: float = 0.5, dtype: str = "F32") -> bytes:
    """A safetensors file of float32 tensors filled with one number."""
    header: dict[str, object] = {}
    data = b""
    for name, shape in shapes.items():
        count = 1
        for size in shape:
            count *= size
        raw = struct.pack("<f", fill) * count
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    encoded = json.dumps(header).encode()
    return struct.pack("<Q", len(encoded)) + encoded + data


def publish_adapter(registry: Registry, adapter: str = "acme", *, rank: int = 2, **config: Any) -> Manifest:
    """Publish one made-up version."""
    with staging(registry, adapter) as staged:
        write_adapter(staged, rank=rank, **config)
        return publish(registry, adapter, staged, lineage(rank=rank))


def write_judgement(registry: Registry, version: int, *reasons: str, adapter: str = "acme") -> None:
    """Write a report of the gate on a version: passed, or refused for ``reasons``."""
    judgement = Judgement(
        model=model_name(adapter, version),
        manifest_sha256=manifest_hash(registry, adapter, version),
        judged="2026-11-24T10:00:00+00:00",
        passed=not reasons,
        reasons=list(reasons),
    )
    write_report(registry, adapter, version, msgspec.json.encode(judgement), "<!doctype html>")
