"""What a version must be before an engine may see it: whole, safe, and made for this base model.

The safetensors header is parsed here, by hand and within limits, before any library opens the file.
"""

import hashlib
import os
import re
from pathlib import Path
from typing import Annotated, Any

import msgspec

from services.registry.errors import VersionRefused, because
from services.registry.files import open_regular, read_regular
from services.registry.layout import ADAPTER_CONFIG, ADAPTER_WEIGHTS, MANIFEST, Registry, model_name
from services.registry.manifest import FileRecord, Manifest, read_manifest
from services.registry.rows import ROWS

ALLOWED_FILES = frozenset({ADAPTER_CONFIG, ADAPTER_WEIGHTS, ROWS, "loss.svg"})
MAX_CONFIG_BYTES = 1024 * 1024
MAX_HEADER_BYTES = 16 * 1024 * 1024
_CHUNK = 4 * 1024 * 1024
_LORA_TENSOR = re.compile(r"base_model\.model\.[A-Za-z0-9_.]+\.lora_(?:A|B)\.weight")
_DTYPE_BYTES = {"F32": 4, "F16": 2, "BF16": 2}


class Expectation(msgspec.Struct, frozen=True, kw_only=True):
    """What the server can serve.

    Attributes:
        base_fingerprint: of the base model that the engine holds.
        chat_template_sha256: of the template that the server renders with.
        max_rank: the highest rank that the engine was started for.
        target_modules: the modules that the engine was started to adapt.
    """

    base_fingerprint: str
    chat_template_sha256: str
    max_rank: int
    target_modules: frozenset[str]


# As the format has them. Of more digits than Python writes out, a sum of two could not even be refused in words.
_Size = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class _Tensor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    dtype: str
    shape: list[_Size]
    data_offsets: tuple[_Size, _Size]


def check_version(registry: Registry, adapter: str, version: int, expectation: Expectation) -> Manifest:
    """Check everything about a published version that can be checked without an engine.

    Raises:
        VersionRefused: with the reason and, where there is one, the remedy.
    """
    name = model_name(adapter, version)
    folder = registry.folder(adapter, version)
    manifest = verify_version(registry, adapter, version)
    base = manifest.base
    if base.fingerprint != expectation.base_fingerprint:
        raise VersionRefused(
            f"{name}: trained on another base model ({base.name}, {base.fingerprint[:12]}); retrain on the one that is served"
        )
    if base.chat_template_sha256 != expectation.chat_template_sha256:
        raise VersionRefused(
            f"{name}: trained with another chat template ({base.chat_template_sha256[:12]}); retrain with the one that is served"
        )
    facts = _check_config(name, folder / ADAPTER_CONFIG, expectation.max_rank)
    if facts != (manifest.lora.rank, sorted(manifest.lora.target_modules)):
        raise VersionRefused(f"{name}: {ADAPTER_CONFIG} and {MANIFEST} disagree on rank or target modules")
    if strange := set(manifest.lora.target_modules) - expectation.target_modules:
        raise VersionRefused(
            f"{name}: adapts {', '.join(sorted(strange))}, which the engine was not started to adapt; "
            "add it to engine.target_modules in config/server.toml, or leave it out of lora.target_modules"
        )
    check_weights(name, folder / ADAPTER_WEIGHTS, rank=manifest.lora.rank)
    return manifest


def verify_version(registry: Registry, adapter: str, version: int) -> Manifest:
    """Compare every file of a version with its manifest: names, sizes, hashes; nothing more, nothing less.

    Raises:
        VersionRefused: with the file and what is wrong with it.
    """
    name = model_name(adapter, version)
    folder = registry.folder(adapter, version)
    if folder.is_symlink() or folder.parent.is_symlink():
        raise VersionRefused(f"{name}: the folder is a link")
    manifest = read_manifest(folder)
    try:
        present = {entry.name for entry in folder.iterdir()} - {MANIFEST}
    except OSError as error:
        raise VersionRefused(f"{name}: {because(error)}") from error
    listed = set(manifest.files)
    if unknown := (present | listed) - ALLOWED_FILES:
        raise VersionRefused(
            f"{name}: holds {', '.join(sorted(unknown))!r}; a version holds {', '.join(sorted(ALLOWED_FILES))} only"
        )
    if present != listed or not {ADAPTER_CONFIG, ADAPTER_WEIGHTS} <= present:
        raise VersionRefused(
            f"{name}: files and manifest differ: {', '.join(sorted(present ^ listed)) or ADAPTER_WEIGHTS}"
        )
    for file_name, record in manifest.files.items():
        _check_file(name, folder / file_name, record)
    return manifest


def file_record(file: Path) -> FileRecord:
    """Size and hash of a file, read in pieces."""
    digest = hashlib.sha256()
    size = 0
    with file.open("rb") as stream:
        while piece := stream.read(_CHUNK):
            digest.update(piece)
            size += len(piece)
    return FileRecord(size=size, sha256=digest.hexdigest())


def _check_file(name: str, file: Path, record: FileRecord) -> None:
    try:
        with open_regular(file) as stream:
            size = os.fstat(stream.fileno()).st_size
            if size != record.size:
                raise VersionRefused(f"{name}: {file.name} has {size} bytes, its manifest says {record.size}")
            if hashlib.file_digest(stream, "sha256").hexdigest() != record.sha256:
                raise VersionRefused(f"{name}: {file.name} does not match its hash; the disk or a hand changed it")
    except OSError as error:
        raise VersionRefused(f"{name}: {file.name}: {because(error)}") from error


def _check_config(name: str, file: Path, max_rank: int) -> tuple[int, list[str]]:
    """Rank and target modules, after refusing what vLLM cannot serve or would serve wrongly."""
    config = _read_config(name, file)
    rank = config.get("r")
    targets = config.get("target_modules")
    if config.get("peft_type") != "LORA":
        raise VersionRefused(f"{name}: peft_type is {config.get('peft_type')!r}; only LORA is served")
    if not isinstance(rank, int) or isinstance(rank, bool) or rank < 1:
        raise VersionRefused(f"{name}: r in {ADAPTER_CONFIG} is not a positive integer")
    if rank > max_rank:
        raise VersionRefused(
            f"{name}: rank {rank} is over the server's max_lora_rank {max_rank}; raise it in config/server.toml or lower lora.rank"
        )
    if not isinstance(targets, list) or not targets or not all(isinstance(target, str) for target in targets):
        raise VersionRefused(f"{name}: target_modules in {ADAPTER_CONFIG} is not a list of names")
    for key, meaning in (
        ("use_dora", "DoRA"),
        ("modules_to_save", "modules_to_save"),
        ("rank_pattern", "a rank per module"),
        ("alpha_pattern", "an alpha per module"),
        ("lora_bias", "a LoRA bias"),
        ("trainable_token_indices", "trained token embeddings"),
        ("layer_replication", "layer replication"),
        ("auto_mapping", "code of its own"),
    ):
        if config.get(key):
            raise VersionRefused(f"{name}: uses {meaning} ({key}), which the engine does not serve")
    if config.get("bias", "none") != "none":
        raise VersionRefused(f"{name}: bias is {config['bias']!r}; the engine serves 'none' only")
    return rank, sorted(targets)


def _read_config(name: str, file: Path) -> dict[str, Any]:
    try:
        return msgspec.json.decode(read_regular(file, most=MAX_CONFIG_BYTES), type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise VersionRefused(f"{name}: {ADAPTER_CONFIG} cannot be read: {error}") from error
    except OSError as error:
        raise VersionRefused(f"{name}: {ADAPTER_CONFIG}: {because(error)}") from error


def check_weights(name: str, file: Path, *, rank: int) -> None:
    """Check a safetensors file's header: its length, its tensors' names, types, shapes, and that they tile the file.

    Format: 8 bytes little-endian header length, that many bytes of JSON, then the tensors
    (https://github.com/huggingface/safetensors#format).

    Raises:
        VersionRefused: with the reason.
    """
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if not len(b"{}") <= length <= min(MAX_HEADER_BYTES, size - 8):
            raise VersionRefused(f"{name}: {file.name}: a header of {length} bytes in a file of {size}")
        raw = stream.read(length)
    try:
        header = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
        # Nothing here needs it, but the engine's library reads it.
        msgspec.json.decode(header.pop("__metadata__", b"{}"), type=dict[str, str])
        tensors = {key: msgspec.json.decode(value, type=_Tensor) for key, value in header.items()}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise VersionRefused(f"{name}: {file.name}: its header cannot be read: {error}") from error
    if not tensors:
        raise VersionRefused(f"{name}: {file.name} holds no tensor")
    end = 0
    for key, tensor in sorted(tensors.items(), key=lambda item: item[1].data_offsets):
        if not _LORA_TENSOR.fullmatch(key):
            raise VersionRefused(f"{name}: {file.name}: {key[:100]!r} is not a LoRA matrix")
        if tensor.dtype not in _DTYPE_BYTES or len(tensor.shape) != 2 or min(tensor.shape) < 1:  # noqa: PLR2004 - a matrix
            raise VersionRefused(f"{name}: {file.name}: {key} is {tensor.dtype} of shape {tensor.shape}")
        if tensor.shape[0 if ".lora_A." in key else 1] != rank:
            raise VersionRefused(f"{name}: {file.name}: {key} has shape {tensor.shape}, not of rank {rank}")
        begin, stop = tensor.data_offsets
        if begin != end or stop - begin != tensor.shape[0] * tensor.shape[1] * _DTYPE_BYTES[tensor.dtype]:
            raise VersionRefused(f"{name}: {file.name}: {key} does not lie where its shape says")
        end = stop
    if 8 + length + end != size:
        raise VersionRefused(f"{name}: {file.name} has {size} bytes, its header describes {8 + length + end}")
