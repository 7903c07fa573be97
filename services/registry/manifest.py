"""The manifest: what a version is made of, what it was made from, and how to recognise it in the engine."""

from pathlib import Path
from typing import Any

import msgspec

from services.registry.errors import VersionRefused, because
from services.registry.files import read_regular
from services.registry.layout import MANIFEST

FORMAT = 1
MAX_MANIFEST_BYTES = 4 * 1024 * 1024


class FileRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file of a version.

    Attributes:
        size: bytes.
        sha256: of the whole file, in hexadecimal.
    """

    size: int
    sha256: str


class BaseReference(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The base model that an adapter belongs to, as ``services.base_model`` identifies it."""

    name: str
    fingerprint: str
    chat_template_sha256: str


class LoraFacts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The shape of the update."""

    rank: int
    alpha: float
    target_modules: list[str]


class ProbePrompt(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A fixed text with the log-probabilities that the trainer read off it.

    Attributes:
        token_ids: the text in the base's tokens, N of them.
        base_logprobs: natural log of p(token[i+1] | token[:i+1]) without the adapter, N-1 of them.
        adapter_logprobs: the same with the adapter.
    """

    token_ids: list[int]
    base_logprobs: list[float]
    adapter_logprobs: list[float]


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything about one version; written last, so that its presence says the version is whole.

    Attributes:
        files: every other file of the folder, by name.
        probe: the prompts by which the server recognises this version in its own engine.
        dataset: content-free report on the rows: files with hashes, kept, dropped and why.
        recipe: every training setting that was in force.
        metrics: what training measured, such as the last loss.
        parent: the version in service when this one was trained.
    """

    format: int
    adapter: str
    version: int
    created: str
    base: BaseReference
    lora: LoraFacts
    files: dict[str, FileRecord]
    probe: list[ProbePrompt]
    dataset: dict[str, Any]
    recipe: dict[str, Any]
    packages: dict[str, str]
    metrics: dict[str, Any]
    parent: int | None


def encode_manifest(manifest: Manifest) -> bytes:
    """The manifest's file, indented for people."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a version's folder.

    Raises:
        VersionRefused: it is missing, too large, not a regular file, not JSON, of another format, or its folder's name is
            another version.
    """
    file = folder / MANIFEST
    name = f"{folder.parent.name}@{folder.name}"
    try:
        manifest = msgspec.json.decode(read_regular(file, most=MAX_MANIFEST_BYTES), type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise VersionRefused(f"{name}: {MANIFEST} cannot be read: {error}") from error
    except OSError as error:
        raise VersionRefused(f"{name}: {MANIFEST}: {because(error)}") from error
    if manifest.format != FORMAT:
        raise VersionRefused(f"{name}: manifest format {manifest.format}; this release reads format {FORMAT}")
    if (manifest.adapter, str(manifest.version)) != (folder.parent.name, folder.name):
        raise VersionRefused(f"{name}: the manifest is of {manifest.adapter}@{manifest.version}")
    return manifest
