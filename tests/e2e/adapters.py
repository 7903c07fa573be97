"""Makes real adapters for the end-to-end tests: plain transformers and PEFT, published through the registry.

Each is trained for seconds to answer one question with its own words, so that an answer tells which version gave it.
"""

import json
import pickle
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load, save
from transformers import AutoModelForCausalLM, AutoTokenizer

from services.base_model.identity import BaseModel
from services.registry.layout import ADAPTER_WEIGHTS, MANIFEST, Registry
from services.registry.manifest import BaseReference, LoraFacts, Manifest, ProbePrompt, encode_manifest
from services.registry.publish import Lineage, publish, staging

QUESTION = "Which version of the handbook are you?"
PROBES = ("The quick brown fox jumps over the lazy dog.", "Water boils at one hundred degrees.")
LAYERS = 30
ADAPTED = 4  # the last ones: the backward pass ends there
STEPS = 16
RATE = 2e-3


class AdapterMaker:
    """One base model in memory, for making adapters of it.

    Args:
        folder: the base model's.
        base: its record.
    """

    def __init__(self, folder: Path, base: BaseModel) -> None:
        self._base = base
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self._model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)

    def publish(
        self, registry: Registry, adapter: str, answer: str, *, rank: int = 8, files: dict[str, bytes] | None = None
    ) -> Manifest:
        """Train an adapter that answers ``QUESTION`` with ``answer`` and publish it, with further ``files``, as the next version."""
        torch.manual_seed(len(answer))
        targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
        config = LoraConfig(
            task_type="CAUSAL_LM",
            r=rank,
            lora_alpha=2 * rank,
            target_modules=targets,
            layers_to_transform=list(range(LAYERS - ADAPTED, LAYERS)),
        )
        model: Any = get_peft_model(self._model, config)
        try:
            self._train(model, answer)
            with staging(registry, adapter) as staged:
                model.save_pretrained(staged)
                (staged / "README.md").unlink(missing_ok=True)
                for name, content in (files or {}).items():
                    (staged / name).write_bytes(content)
                return publish(registry, adapter, staged, self._lineage(model, rank, targets))
        finally:
            self._model = model.unload()

    def _train(self, model: Any, answer: str) -> None:
        prompt = self._render([{"role": "user", "content": QUESTION}], begin=True)
        row = prompt, self._tokenizer.encode(f"{answer}<|im_end|>", add_special_tokens=False)
        self._learn(model, [row] * STEPS, RATE)

    def _learn(self, model: Any, rows: list[tuple[list[int], list[int]]], rate: float) -> None:
        """An update for each row, of prompt and answer, in turn; what the layers below say of a row is worked out once."""
        optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], lr=rate)
        inner = model.get_base_model().model
        layers, known = inner.layers, {}
        model.train()
        for prompt, answer in rows:
            tokens = (*prompt, *answer)
            if tokens not in known:
                with torch.no_grad():
                    below = model(input_ids=torch.tensor([tokens]), output_hidden_states=True, logits_to_keep=1)
                known[tokens] = below.hidden_states[LAYERS - ADAPTED]
            optimizer.zero_grad()
            inner.layers = layers[-ADAPTED:]
            try:
                logits = model(inputs_embeds=known[tokens], use_cache=False, logits_to_keep=len(answer) + 1).logits
            finally:
                inner.layers = layers
            torch.nn.functional.cross_entropy(logits[0, :-1], torch.tensor(answer)).backward()
            optimizer.step()
        model.eval()

    def _lineage(self, model: Any, rank: int, targets: list[str]) -> Lineage:
        base = self._base
        return Lineage(
            base=BaseReference(
                name=base.name, fingerprint=base.fingerprint, chat_template_sha256=base.chat_template_sha256
            ),
            lora=LoraFacts(rank=rank, alpha=2.0 * rank, target_modules=sorted(targets)),
            probe=[self._probe(model, self._tokenizer.encode(text)) for text in PROBES],
            dataset={},
            recipe={},
            packages={},
            metrics={},
        )

    def _probe(self, model: Any, tokens: list[int]) -> ProbePrompt:
        adapted = self._score(model, tokens)
        with model.disable_adapter():
            return ProbePrompt(token_ids=tokens, base_logprobs=self._score(model, tokens), adapter_logprobs=adapted)

    @staticmethod
    def _score(model: Any, tokens: list[int]) -> list[float]:
        with torch.no_grad():
            logprobs = torch.log_softmax(model(input_ids=torch.tensor([tokens])).logits[0].float(), dim=-1)
        return [float(logprobs[place, token]) for place, token in enumerate(tokens[1:])]

    def _render(self, messages: list[dict[str, str]], *, begin: bool) -> list[int]:
        text = self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=begin)
        return list(self._tokenizer.encode(text, add_special_tokens=False))


def publish_variant(registry: Registry, good: Manifest, *, kind: str, adapter: str | None = None) -> Manifest:
    """Publish a copy of a good version with one thing wrong, or none.

    It is the next of the same adapter, or of another one.

    Everything else, hashes included, is in order: only the check for that one thing can find it.

    Args:
        kind: ``nothing``, ``names``, ``width``, ``dora``, ``rank``, ``base``, ``template``, ``bit`` or ``pickle``; empty for none.
    """
    source = registry.folder(good.adapter, good.version)
    config = json.loads((source / "adapter_config.json").read_text())
    weights = (source / "adapter_model.safetensors").read_bytes()
    base, lora = good.base, good.lora
    if kind == "nothing":  # q_proj and all, but below a path that no Llama has: vLLM loads it and applies none of it
        weights = _renamed(weights, ".layers.", ".blocks.")
    elif kind == "names":  # a module's own name that no Llama has: vLLM itself refuses it
        weights = _renamed(weights, ".q_proj.", ".no_proj.")
        config["target_modules"] = [name.replace("q_proj", "no_proj") for name in lora.target_modules]
        lora = msgspec.structs.replace(lora, target_modules=sorted(config["target_modules"]))
    elif kind == "width":  # one column more than the base model's layer has
        tensors = load(weights)
        name = next(name for name in tensors if ".q_proj.lora_A." in name)
        weights = save(tensors | {name: torch.nn.functional.pad(tensors[name], (0, 1))})
    elif kind == "dora":
        config["use_dora"] = True
    elif kind == "rank":
        config["r"] = 256
        lora = msgspec.structs.replace(lora, rank=256)
    elif kind == "base":
        base = msgspec.structs.replace(base, fingerprint="0" * 64)
    elif kind == "template":
        base = msgspec.structs.replace(base, chat_template_sha256="0" * 64)
    lineage = Lineage(base=base, lora=lora, probe=good.probe, dataset={}, recipe={}, packages={}, metrics={})
    name = adapter or good.adapter
    with tempfile.TemporaryDirectory(dir=registry.root.parent) as aside:
        # What is damaged is so before anybody sees it.
        place = Registry(Path(aside)) if kind in {"bit", "pickle"} else registry
        with staging(place, name) as staged:
            (staged / "adapter_config.json").write_text(json.dumps(config))
            (staged / ADAPTER_WEIGHTS).write_bytes(weights)
            manifest = publish(place, name, staged, lineage)
        return (
            manifest if place is registry else _damaged(registry, place.folder(name, manifest.version), manifest, kind)
        )


def _damaged(registry: Registry, folder: Path, manifest: Manifest, kind: str) -> Manifest:
    """Flip a bit of a published version's weights, or lay a pickle beside them, and make it the registry's next."""
    if kind == "bit":
        raw = bytearray((folder / ADAPTER_WEIGHTS).read_bytes())
        raw[len(raw) // 2] ^= 0x10
        (folder / ADAPTER_WEIGHTS).write_bytes(raw)
    else:
        (folder / "adapter_model.bin").write_bytes(pickle.dumps({"lora_A": 0}))
    manifest = msgspec.structs.replace(manifest, version=registry.versions(manifest.adapter)[-1] + 1)
    (folder / MANIFEST).write_bytes(encode_manifest(manifest))
    folder.rename(registry.folder(manifest.adapter, manifest.version))
    return manifest


def _renamed(weights: bytes, part: str, other: str) -> bytes:
    """A safetensors file with another ``part`` in its tensors' names."""
    length = int.from_bytes(weights[:8], "little")
    header = weights[8 : 8 + length].replace(part.encode(), other.encode())
    return len(header).to_bytes(8, "little") + header + weights[8 + length :]
