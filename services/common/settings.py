"""Settings from TOML: a file, a profile's file over it, the command line over both; decoded strictly.

``load("training", Training)`` reads ``config/training.toml``; with ``WHETSTONE_PROFILE=cpu`` the tables of
``config/cpu/training.toml`` replace single values; ``--set table.key=value`` has the last word.
"""

import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")
Table = dict[str, Any]


class SettingsError(Exception):
    """A setting is missing, unknown or of the wrong type; the message names the file, the key and the remedy."""


def config_folder() -> Path:
    """The folder of the settings files: ``WHETSTONE_CONFIG``, or ``config`` below the working directory."""
    return Path(os.environ.get("WHETSTONE_CONFIG") or "config")


def profile_name() -> str:
    """The profile laid over the settings: ``WHETSTONE_PROFILE``, empty for the GPU server's own."""
    return os.environ.get("WHETSTONE_PROFILE", "")


def load(name: str, kind: type[T], overrides: Sequence[str] = (), *, folder: Path | None = None) -> T:
    """Read the settings called ``name`` as a ``kind``.

    Args:
        name: the file's stem, such as ``training``.
        kind: a msgspec struct that forbids unknown fields.
        overrides: ``table.key=value`` strings; the value is TOML, or plain text where it is not.
        folder: the settings folder; ``config_folder()`` where it is None.

    Raises:
        SettingsError: a file is missing or not TOML, or a key is unknown, missing or of the wrong type.
    """
    folder = folder or config_folder()
    files = [folder / f"{name}.toml"]
    merged = _read(files[0])
    if profile := profile_name():
        if not (folder / profile).is_dir():
            raise SettingsError(f"WHETSTONE_PROFILE={profile}: no such folder {folder / profile}; unset it or add one")
        layer = folder / profile / f"{name}.toml"
        if layer.exists():
            files.append(layer)
            merged = _merge(merged, _read(layer))
    for override in overrides:
        merged = _merge(merged, _parse_override(override))
    try:
        return msgspec.convert(merged, kind, strict=True)
    except msgspec.ValidationError as error:
        read = " + ".join(str(file) for file in [*files, *(f"--set {item}" for item in overrides)])
        raise SettingsError(f"{read}: {error}") from error


def _read(file: Path) -> Table:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SettingsError(f"{file}: no such file; set WHETSTONE_CONFIG to the settings folder") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file}: not TOML: {error}") from error


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> Table:
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = _merge(below, value) if isinstance(value, dict) and isinstance(below, dict) else value
    return merged


def _parse_override(text: str) -> Table:
    dotted, separator, raw = text.partition("=")
    keys = dotted.strip().split(".")
    if not separator or not all(keys):
        raise SettingsError(f"--set {text}: want table.key=value, for example --set recipe.epochs=2")
    try:
        value = tomllib.loads(f"value = {raw}")["value"]
    except tomllib.TOMLDecodeError:
        value = raw.strip()  # an unquoted word is text: --set recipe.scheduler=cosine
    nested: Any = value
    for key in reversed(keys):
        nested = {key: nested}
    table: Table = nested
    return table
