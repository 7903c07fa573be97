"""The base model's tokenizer, from its folder, offline, without remote code."""

import importlib
import json
from pathlib import Path
from typing import Any


def load_tokenizer(base_folder: Path) -> Any:
    """A fast tokenizer with the base's chat template."""
    from transformers import AutoTokenizer  # noqa: PLC0415 - takes seconds to import

    return AutoTokenizer.from_pretrained(base_folder, local_files_only=True, trust_remote_code=False, use_fast=True)


def import_tokenizers() -> None:
    """Import what the first ``load_tokenizer`` would."""
    importlib.import_module("transformers.tokenization_utils_tokenizers")
    importlib.import_module("transformers.models.auto.tokenization_auto")


def stop_ids(tokenizer: Any, base_folder: Path) -> frozenset[int]:
    """The token ids at which an engine stops: the tokenizer's and those of ``generation_config.json``."""
    found = {tokenizer.eos_token_id} if tokenizer.eos_token_id is not None else set()
    file = base_folder / "generation_config.json"
    if file.exists():
        configured = json.loads(file.read_text(encoding="utf-8")).get("eos_token_id")
        found |= set(configured) if isinstance(configured, list) else {configured} - {None}
    return frozenset(found)
