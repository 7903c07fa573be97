"""The base model's tokenizer, from its folder, offline, without remote code."""

import importlib
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from services.common.garbage import importing


def load_tokenizer(base_folder: Path) -> Any:
    """A fast tokenizer with the base's chat template."""
    from transformers import AutoTokenizer  # noqa: PLC0415 - takes seconds to import

    return AutoTokenizer.from_pretrained(base_folder, local_files_only=True, trust_remote_code=False, use_fast=True)


class Tokenizers:
    """Loads tokenizers in a process that computes nothing with torch, now or ever: importing that takes seconds and a lot of memory.

    One can be loaded before it is known whether it is wanted.
    """

    def __init__(self) -> None:
        """Nothing is imported yet."""
        self._kept: tuple[Path, Any] | None = None

    def get_ready(self, base_folder: Path) -> None:
        """Load a tokenizer, and use it once: its template is compiled at its first use."""
        tokenizer = self(base_folder)
        if tokenizer.chat_template:
            tokenizer.apply_chat_template([{"role": "user", "content": "-"}], tokenize=False)
        self._kept = base_folder, tokenizer

    def __call__(self, base_folder: Path) -> Any:
        """A fast tokenizer with the base's chat template; the one that was loaded before, if it is that."""
        if self._kept is not None and self._kept[0] == base_folder:
            return self._kept[1]
        import_tokenizers()
        return load_tokenizer(base_folder)


def import_tokenizers() -> None:
    """Import what the first ``load_tokenizer`` would, but for torch; transformers computes nothing in this process afterwards."""
    with _hidden("torch"), _unadvised(), importing():
        importlib.import_module("transformers.tokenization_utils_tokenizers")
        importlib.import_module("transformers.models.auto.tokenization_auto")


@contextmanager
def _hidden(package: str) -> Iterator[None]:
    """Let ``package`` look as if it were not installed, unless it was imported already."""
    hides = package not in sys.modules
    if hides:
        sys.modules[package] = None  # type: ignore[assignment]  # which Python takes for that
    try:
        yield
    finally:
        if hides:
            del sys.modules[package]


@contextmanager
def _unadvised() -> Iterator[None]:
    """Keep transformers from saying that it has no torch."""
    name = "TRANSFORMERS_NO_ADVISORY_WARNINGS"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        del os.environ[name]
        if before is not None:
            os.environ[name] = before


def stop_ids(tokenizer: Any, base_folder: Path) -> frozenset[int]:
    """The token ids at which an engine stops: the tokenizer's and those of ``generation_config.json``."""
    found = {tokenizer.eos_token_id} if tokenizer.eos_token_id is not None else set()
    file = base_folder / "generation_config.json"
    if file.exists():
        configured = json.loads(file.read_text(encoding="utf-8")).get("eos_token_id")
        found |= set(configured) if isinstance(configured, list) else {configured} - {None}
    return frozenset(found)
