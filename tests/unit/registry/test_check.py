"""Everything that must not reach an engine is refused before it, with a reason."""

import hashlib
import json
import os
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from services.registry.check import MAX_CONFIG_BYTES, Expectation, check_version, file_record
from services.registry.errors import VersionRefused
from services.registry.layout import ADAPTER_CONFIG, ADAPTER_WEIGHTS, MANIFEST, Registry
from services.registry.manifest import MAX_MANIFEST_BYTES
from tests.support.adapters import BASE, SHAPES, publish_adapter, safetensors

EXPECTED = Expectation(
    base_fingerprint=BASE.fingerprint,
    chat_template_sha256=BASE.chat_template_sha256,
    max_rank=16,
    target_modules=frozenset({"q_proj", "v_proj"}),
    base_shapes=SHAPES,
)
STEM = "base_model.model.model.layers.0.self_attn.q_proj"


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry")


def refused(registry: Registry, expectation: Expectation = EXPECTED) -> str:
    with pytest.raises(VersionRefused) as caught:
        check_version(registry, "acme", 1, expectation)
    return str(caught.value)


def replace(registry: Registry, name: str, content: bytes) -> None:
    """Change a file and make the manifest agree, as an attacker or a buggy trainer would."""
    folder = registry.folder("acme", 1)
    (folder / name).write_bytes(content)
    manifest = json.loads((folder / MANIFEST).read_text())
    record = file_record(folder / name)
    manifest["files"][name] = {"size": record.size, "sha256": record.sha256}
    (folder / MANIFEST).write_text(json.dumps(manifest))


def test_a_good_version_passes(registry: Registry) -> None:
    assert check_version(registry, "acme", publish_adapter(registry).version, EXPECTED).adapter == "acme"


@pytest.mark.parametrize("name", [ADAPTER_WEIGHTS, ADAPTER_CONFIG])
def test_a_flipped_bit_is_found(registry: Registry, name: str) -> None:
    publish_adapter(registry)
    file = registry.folder("acme", 1) / name
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)
    assert f"{name} does not match its hash" in refused(registry)


def test_a_truncated_file_is_found(registry: Registry) -> None:
    publish_adapter(registry)
    file = registry.folder("acme", 1) / ADAPTER_WEIGHTS
    file.write_bytes(file.read_bytes()[:-1])
    assert "its manifest says" in refused(registry)


@pytest.mark.parametrize("extra", ["adapter_model.bin", "modeling.py", "tokenizer.json"])
def test_pickles_and_programs_are_refused(registry: Registry, extra: str) -> None:
    publish_adapter(registry)
    (registry.folder("acme", 1) / extra).write_bytes(b"x")
    assert extra in refused(registry)
    replace(registry, extra, b"x")
    assert extra in refused(registry)


def test_a_link_in_place_of_a_file_is_refused(registry: Registry, tmp_path: Path) -> None:
    publish_adapter(registry)
    file = registry.folder("acme", 1) / ADAPTER_WEIGHTS
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    assert ADAPTER_WEIGHTS in refused(registry)


@pytest.mark.parametrize(
    "manifest",
    [b"", b"{", b"[" * 100_000, b"\xff", b"{}", b'{"format": 1}'],
    ids=["empty", "cut", "deep", "bytes", "bare", "short"],
)
def test_a_manifest_that_cannot_be_read_is_refused(registry: Registry, manifest: bytes) -> None:
    publish_adapter(registry)
    (registry.folder("acme", 1) / MANIFEST).write_bytes(manifest)
    assert "manifest.json cannot be read" in refused(registry)


@pytest.mark.parametrize("name", [MANIFEST, ADAPTER_WEIGHTS])
def test_a_pipe_in_place_of_a_file_is_refused_and_holds_nobody_up(registry: Registry, name: str) -> None:
    """A reader that opened it would wait for a writer that never comes, and with it the server's look at the registry."""
    publish_adapter(registry)
    pipe = registry.folder("acme", 1) / name
    pipe.unlink()
    os.mkfifo(pipe)
    reasons: list[str] = []
    checking = threading.Thread(target=lambda: reasons.append(refused(registry)), daemon=True)
    checking.start()
    checking.join(5)
    assert len(reasons) == 1, "the check waits at the pipe"
    assert f"{name}: is not a regular file" in reasons[0]


def test_a_manifest_over_its_limit_is_not_read(registry: Registry) -> None:
    publish_adapter(registry)
    (registry.folder("acme", 1) / MANIFEST).write_bytes(b" " * (MAX_MANIFEST_BYTES + 1))
    assert f"manifest.json: is over {MAX_MANIFEST_BYTES} bytes" in refused(registry)


@pytest.mark.parametrize("linked", ["1", "."], ids=["version", "adapter"])
def test_a_linked_folder_is_refused(registry: Registry, tmp_path: Path, linked: str) -> None:
    """What a link leads to is another's to change: neither a version's folder nor an adapter's may be one."""
    publish_adapter(registry)
    folder = registry.root / "acme" / linked
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    assert "the folder is a link" in refused(registry)
    assert registry.adapters() == (["acme"] if linked == "1" else [])


@pytest.mark.parametrize("name", ["../evil", "../../current.json", "/etc/passwd", "sub/adapter_model.safetensors"])
def test_a_manifest_that_names_a_file_elsewhere_is_refused(registry: Registry, name: str) -> None:
    """Even where the file exists and its hash is right."""
    publish_adapter(registry)
    folder = registry.folder("acme", 1)
    (folder.parent / "evil").write_bytes(b"x")
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"][name] = {"size": 1, "sha256": hashlib.sha256(b"x").hexdigest()}
    (folder / MANIFEST).write_text(json.dumps(manifest))
    assert repr(name) in refused(registry)


def test_a_manifest_of_another_version_is_refused(registry: Registry) -> None:
    publish_adapter(registry)
    folder = registry.folder("acme", 1)
    (folder / MANIFEST).write_text((folder / MANIFEST).read_text().replace('"version": 1', '"version": 2'))
    assert "the manifest is of acme@2" in refused(registry)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"use_dora": True}, "DoRA"),
        ({"bias": "all"}, "bias is 'all'"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"rank_pattern": {"q_proj": 8}}, "a rank per module"),
        ({"auto_mapping": {"base_model_class": "X"}}, "code of its own"),
        ({"lora_bias": True}, "a LoRA bias"),
        ({"peft_type": "IA3"}, "only LORA is served"),
        ({"r": True}, "not a positive integer"),
        ({"r": "2"}, "not a positive integer"),
        ({"target_modules": ".*"}, "not a list of names"),
        ({"target_modules": ["k_proj"]}, "disagree on rank or target modules"),
    ],
)
def test_what_the_engine_cannot_serve_is_refused(registry: Registry, config: dict[str, Any], reason: str) -> None:
    publish_adapter(registry, **config)
    assert reason in refused(registry)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "adapter_config.json cannot be read"),
        (b"[]", "adapter_config.json cannot be read"),
        (b"\xff", "adapter_config.json cannot be read"),
        (b"[" * 100_000, "adapter_config.json cannot be read"),
        (b" " * MAX_CONFIG_BYTES + b"{}", f"adapter_config.json: is over {MAX_CONFIG_BYTES} bytes"),
    ],
    ids=["cut", "list", "bytes", "deep", "large"],
)
def test_a_configuration_that_cannot_be_read_is_refused(registry: Registry, content: bytes, reason: str) -> None:
    publish_adapter(registry)
    replace(registry, ADAPTER_CONFIG, content)
    assert reason in refused(registry)


def test_a_rank_over_the_servers_is_refused_with_the_setting(registry: Registry) -> None:
    publish_adapter(registry, rank=32)
    assert "rank 32 is over the server's max_lora_rank 16" in refused(registry)


@pytest.mark.parametrize(
    ("field", "reason"), [("base_fingerprint", "another base model"), ("chat_template_sha256", "another chat template")]
)
def test_another_base_or_template_is_refused(registry: Registry, field: str, reason: str) -> None:
    publish_adapter(registry)
    assert reason in refused(registry, msgspec.structs.replace(EXPECTED, **{field: "0" * 64}))


def test_modules_that_the_engine_does_not_adapt_are_refused_by_name(registry: Registry) -> None:
    """vLLM would load such a version and leave those modules as they are, without a word."""
    publish_adapter(registry)
    reason = refused(registry, msgspec.structs.replace(EXPECTED, target_modules=frozenset({"v_proj"})))
    assert "adapts q_proj, which the engine was not started to adapt" in reason
    assert "engine.target_modules" in reason


def _header(text: bytes, *, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(text) if length is None else length) + text


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (lambda: _header(b"{}", length=2**63), "a header of"),
        (lambda: _header(b"{}", length=2**40), "a header of"),
        (lambda: b"\x02", "a header of"),
        (lambda: _header(b"[" * 50_000), "its header cannot be read"),
        (lambda: _header(b"{}"), "holds no tensor"),
        (lambda: safetensors({f"{STEM}.weight": (2, 4)}), "is not a LoRA matrix"),
        (lambda: safetensors({"base_model.model.../x.lora_A.weight": (2, 4)}), "is not a LoRA matrix"),
        (lambda: safetensors({f"{STEM}.lora_A.weight": (2, 4, 1)}), "of shape"),
        (lambda: safetensors({f"{STEM}.lora_A.weight": (3, 4)}), "not of rank 2"),
        (lambda: safetensors({f"{STEM}.lora_A.weight": (2, 4)}, dtype="I64"), "is I64"),
        (lambda: safetensors({f"{STEM}.lora_A.weight": (2, 4)}, dtype="F16"), "does not lie where its shape says"),
        (lambda: safetensors({f"{STEM}.lora_A.weight": (2, 4)}) + b"tail", "its header describes"),
    ],
)
def test_a_crafted_weights_file_is_refused(registry: Registry, content: Callable[[], bytes], reason: str) -> None:
    publish_adapter(registry)
    replace(registry, ADAPTER_WEIGHTS, content())
    assert reason in refused(registry)


def test_a_size_of_more_digits_than_python_writes_is_refused(registry: Registry) -> None:
    """The end of such a tensor, and 8 more, cannot even be said."""
    publish_adapter(registry)
    end = 10**4300 - 8
    header = {f"{STEM}.lora_A.weight": {"dtype": "F32", "shape": [2, end // 8], "data_offsets": [0, end]}}
    replace(registry, ADAPTER_WEIGHTS, _header(json.dumps(header).encode()))
    assert "its header cannot be read" in refused(registry)


@pytest.mark.parametrize("metadata", [5, [], {"format": 1}])
def test_metadata_that_the_engines_library_refuses_is_refused(registry: Registry, metadata: object) -> None:
    publish_adapter(registry)
    content = safetensors({f"{STEM}.lora_A.weight": (2, 4)})
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8:end]) | {"__metadata__": metadata}).encode()
    replace(registry, ADAPTER_WEIGHTS, _header(header) + content[end:])
    assert "its header cannot be read" in refused(registry)


def test_overlapping_tensors_are_refused(registry: Registry) -> None:
    publish_adapter(registry)
    tensor = {"dtype": "F32", "shape": [2, 4], "data_offsets": [0, 32]}
    header = json.dumps({f"{STEM}.lora_A.weight": tensor, f"{STEM}.lora_B.weight": tensor | {"shape": [4, 2]}}).encode()
    replace(registry, ADAPTER_WEIGHTS, _header(header) + b"\0" * 32)
    assert "does not lie where its shape says" in refused(registry)
