"""Take a base model from a repository of the Hugging Face Hub: weights as safetensors at one commit, and no code."""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Protocol

import msgspec

from services.base_model.errors import BaseModelError
from services.base_model.identity import (
    CONFIG,
    TOKENIZER_CONFIG,
    WEIGHTS_INDEX,
    WEIGHTS_SUFFIX,
    BaseModelSettings,
    chat_template,
    hash_file,
    read_json,
)

SINGLE_WEIGHTS = "model.safetensors"
# Data only: pickles (.bin, .pt) and Python files run code when loaded, so they are never on the list.
_SMALL_FILES = ("*.json", "*.jinja", "tokenizer.model", "merges.txt", "vocab.txt", "LICENSE*", "NOTICE*")
_SPARE_BYTES = 256 * 1024 * 1024


class RemoteFile(msgspec.Struct, frozen=True):
    """One file of a repository.

    Attributes:
        name: its path in the repository.
        size: bytes.
        sha256: of large files, in hexadecimal; None where the Hub states none.
    """

    name: str
    size: int
    sha256: str | None = None


class Hub(Protocol):
    """The two calls that go out."""

    def list_files(self, repo: str, revision: str) -> list[RemoteFile]:
        """Every file of the repository at that commit."""
        ...

    def download(self, repo: str, revision: str, names: Sequence[str], folder: Path) -> None:
        """Write the named files into ``folder``, showing progress; those that are there whole stay."""
        ...


class HubSource:
    """A base model from the Hub; small files first, so that a refused repository costs no gigabytes."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def fill(self, folder: Path, settings: BaseModelSettings) -> str:
        """See ``Source.fill``; the revision is the commit of the settings."""
        repo, revision = settings.repo, settings.revision
        files = {file.name: file for file in self._hub.list_files(repo, revision)}
        small = [
            name for name in files if "/" not in name and any(fnmatchcase(name, pattern) for pattern in _SMALL_FILES)
        ]
        if CONFIG not in small:
            raise BaseModelError(f"{repo}: no {CONFIG}; it is not a transformers model")
        self._hub.download(repo, revision, small, folder)
        _refuse_code(repo, folder)
        chat_template(folder)  # an error where there is none
        weights = _weights(repo, files, folder)
        _require_space(folder, sum(files[name].size for name in weights))
        self._hub.download(repo, revision, weights, folder)
        wanted = {*small, *weights}
        for stray in [entry for entry in folder.iterdir() if entry.is_file() and entry.name not in wanted]:
            stray.unlink()  # of an interrupted call
        for name in wanted:
            _check(folder / name, files[name])
        return revision


def _refuse_code(repo: str, folder: Path) -> None:
    for name in (CONFIG, TOKENIZER_CONFIG):
        if (folder / name).exists() and read_json(folder / name).get("auto_map"):
            raise BaseModelError(
                f"{repo}: {name} has auto_map, so the model runs Python code of its repository; "
                "choose a model that transformers supports by itself"
            )


def _weights(repo: str, files: dict[str, RemoteFile], folder: Path) -> list[str]:
    """The weight files to take: those of the index, or the single one; never a second format that lies beside them."""
    if WEIGHTS_INDEX in files:
        shards = read_json(folder / WEIGHTS_INDEX).get("weight_map")
        if not isinstance(shards, dict) or not shards:
            raise BaseModelError(f"{repo}: {WEIGHTS_INDEX} has no weight_map")
        names = sorted({str(name) for name in shards.values()})
    else:
        names = [SINGLE_WEIGHTS]
    for name in names:
        if "/" in name or not name.endswith(WEIGHTS_SUFFIX):
            raise BaseModelError(
                f"{repo}: {WEIGHTS_INDEX} names a file that is not a {WEIGHTS_SUFFIX} file of its folder"
            )
        if name not in files:
            raise BaseModelError(f"{repo}: no {name}; only weights in safetensors are taken, never pickled ones")
    return names


def _require_space(folder: Path, needed: int) -> None:
    present = sum(entry.stat().st_size for entry in folder.rglob("*") if entry.is_file())
    free = shutil.disk_usage(folder).free
    if free + present < needed + _SPARE_BYTES:
        raise BaseModelError(f"{folder.parent}: {needed / 1e9:.1f} GB needed, {free / 1e9:.1f} GB free; make room")


def _check(file: Path, remote: RemoteFile) -> None:
    size = file.stat().st_size if file.exists() else -1
    if size != remote.size or (remote.sha256 is not None and hash_file(file) != remote.sha256):
        file.unlink(missing_ok=True)
        raise BaseModelError(
            f"{remote.name}: arrived damaged and was deleted; run `make model` again, the rest is kept"
        )


class HuggingFaceHub:
    """The Hub through huggingface-hub; ``HF_ENDPOINT`` names a mirror and ``HF_TOKEN_PATH`` the file with a key, as everywhere."""

    def list_files(self, repo: str, revision: str) -> list[RemoteFile]:
        """See ``Hub.list_files``."""
        from huggingface_hub import HfApi  # noqa: PLC0415 - only `fetch` needs it, and it reads its settings at import

        _require_online()
        with _fetching(repo, revision):
            info = HfApi().model_info(repo, revision=revision, files_metadata=True)
        return [
            RemoteFile(name=file.rfilename, size=file.size or 0, sha256=file.lfs.sha256 if file.lfs else None)
            for file in info.siblings or []
        ]

    def download(self, repo: str, revision: str, names: Sequence[str], folder: Path) -> None:
        """See ``Hub.download``."""
        from huggingface_hub import snapshot_download  # noqa: PLC0415 - as above

        with _fetching(repo, revision):
            snapshot_download(repo, revision=revision, local_dir=folder, allow_patterns=list(names))


def _require_online() -> None:
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in {"1", "true", "yes", "on"}:
        raise BaseModelError(
            "HF_HUB_OFFLINE is set, so the Hub must not be called; `make model` unsets it for this one step"
        )


@contextmanager
def _fetching(repo: str, revision: str) -> Iterator[None]:
    """Tell whatever ends a call to the Hub in one sentence."""
    import httpx  # noqa: PLC0415 - only `fetch` needs it

    try:
        yield
    except (OSError, ValueError, httpx.HTTPError) as error:  # no host, or no connection, is httpx's own and no OSError
        raise _cannot_fetch(repo, revision, error) from error


def _cannot_fetch(repo: str, revision: str, error: Exception) -> BaseModelError:
    kind = type(error).__name__
    reason = str(error).strip().splitlines()[0][:300] if str(error).strip() else "no reason given"
    return BaseModelError(
        f"{repo} at {revision}: cannot be fetched ({kind}: {reason}); check the network, HF_ENDPOINT for a mirror "
        "and data/secrets/hub-token for a gated model, then run `make model` again: what arrived is kept"
    )
