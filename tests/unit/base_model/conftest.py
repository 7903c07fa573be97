"""A small repository on a Hub in memory."""

import json

import pytest

from services.base_model.identity import BaseModelSettings
from tests.unit.base_model.fakes import COMMIT, FakeHub


@pytest.fixture
def settings() -> BaseModelSettings:
    return BaseModelSettings(name="tiny", repo="acme/tiny", revision=COMMIT)


@pytest.fixture
def hub() -> FakeHub:
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    return FakeHub(
        {
            "config.json": b'{"model_type": "llama"}',
            "generation_config.json": b"{}",
            "tokenizer.json": b'{"version": "1.0"}',
            "tokenizer_config.json": json.dumps({"chat_template": "in the tokenizer's config"}).encode(),
            "model.safetensors.index.json": json.dumps(index).encode(),
            "model-00001-of-00002.safetensors": b"a" * 500,
            "model-00002-of-00002.safetensors": b"b" * 700,
            "consolidated.safetensors": b"c" * 9000,
            "pytorch_model.bin": b"a pickle",
            "modeling_tiny.py": b"import os",
            "original/params.json": b"{}",
            "README.md": b"# Tiny",
        }
    )
