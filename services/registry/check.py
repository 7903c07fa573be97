"""What a version must be before an engine may see it: whole, safe, and made for this base model.

What is read for it has a bound: of the weights only the header, until it says that they are no larger than the base model allows.
"""

import hashlib
import os
from pathlib import Path
from typing import Any

import msgspec

from services.registry.errors import VersionRefused, because
from services.registry.files import open_regular, read_regular
from services.registry.layout import ADAPTER_CONFIG, ADAPTER_WEIGHTS, MANIFEST, Registry, model_name
from services.registry.manifest import FileRecord, Manifest, read_manifest
from services.registry.rows import ROWS
from services.registry.weights import BaseShapes, check_weights

MAX_CONFIG_BYTES = 1024 * 1024
# Bytes that a file may have; of the weights base model and rank say it.
_MOST_BYTES = {ADAPTER_CONFIG: MAX_CONFIG_BYTES, ROWS: 2**31, "loss.svg": 2**24}
ALLOWED_FILES = frozenset({ADAPTER_WEIGHTS, *_MOST_BYTES})
_CHUNK = 4 * 1024 * 1024


class Expectation(msgspec.Struct, frozen=True, kw_only=True):
    """What the server can serve.

    Attributes:
        base_fingerprint: of the base model that the engine holds.
        chat_template_sha256: of the template that the server renders with.
        max_rank: the highest rank that the engine was started for.
        target_modules: the modules that the engine was started to adapt.
        base_shapes: what the matrices of an adapter must fit.
    """

    base_fingerprint: str
    chat_template_sha256: str
    max_rank: int
    target_modules: frozenset[str]
    base_shapes: BaseShapes


def check_version(registry: Registry, adapter: str, version: int, expectation: Expectation) -> Manifest:
    """Check everything about a published version that can be checked without an engine.

    Raises:
        VersionRefused: with the reason and, where there is one, the remedy.
    """
    name = model_name(adapter, version)
    folder = registry.folder(adapter, version)
    manifest = _complete(registry, adapter, version)
    for file_name, record in manifest.files.items():
        if file_name != ADAPTER_WEIGHTS:
            _check_hash(name, folder / file_name, record)
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
    try:
        check_weights(name, folder / ADAPTER_WEIGHTS, rank=manifest.lora.rank, base=expectation.base_shapes)
    except OSError as error:
        raise VersionRefused(f"{name}: {ADAPTER_WEIGHTS}: {because(error)}") from error
    _check_hash(name, folder / ADAPTER_WEIGHTS, manifest.files[ADAPTER_WEIGHTS])
    return manifest


def verify_version(registry: Registry, adapter: str, version: int) -> Manifest:
    """Compare every file of a version with its manifest: names, sizes, hashes; nothing more, nothing less, and whatever their size.

    Raises:
        VersionRefused: with the file and what is wrong with it.
    """
    manifest = _complete(registry, adapter, version)
    for file_name, record in manifest.files.items():
        _check_hash(model_name(adapter, version), registry.folder(adapter, version) / file_name, record)
    return manifest


def _complete(registry: Registry, adapter: str, version: int) -> Manifest:
    """The manifest of a version that holds the files it names, each of the size it says."""
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
        _check_size(name, folder / file_name, record)
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


def _check_size(name: str, file: Path, record: FileRecord) -> None:
    try:
        with open_regular(file) as stream:
            size = os.fstat(stream.fileno()).st_size
    except OSError as error:
        raise VersionRefused(f"{name}: {file.name}: {because(error)}") from error
    if size != record.size:
        raise VersionRefused(f"{name}: {file.name} has {size} bytes, its manifest says {record.size}")
    if size > (most := _MOST_BYTES.get(file.name, size)):
        raise VersionRefused(f"{name}: {file.name}: is over {most} bytes")


def _check_hash(name: str, file: Path, record: FileRecord) -> None:
    try:
        with open_regular(file) as stream:
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
