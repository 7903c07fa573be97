"""What a process has taken in that waits for its job: when any of it is another, the process is of no use."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from services.base_model.identity import RECORD
from services.common.paths import DataPaths
from services.common.settings import config_folder
from services.trainer.cards import visible_cards

_CODE = Path(__file__).resolve().parents[2]


def surroundings(paths: DataPaths, code: Path = _CODE) -> tuple[object, ...]:
    """Code, installed packages, settings, base models and cards as they are now, by the files' times and sizes.

    Some hundred files are looked at, none is read: milliseconds.
    """
    packages = [folder for folder in sys.path if folder.endswith("-packages")]  # installing anything changes them
    records = map(str, paths.models.glob(f"*/{RECORD}"))
    files = (*_below(code, ".py"), *_below(config_folder(), ".toml"), *packages, *records)
    return (sorted(_seen(files)), visible_cards())


def _below(top: Path, ending: str) -> Iterator[str]:
    for folder, _, names in os.walk(top):
        yield from (os.path.join(folder, name) for name in names if name.endswith(ending))  # noqa: PTH118 - four times as fast


def _seen(files: tuple[str, ...]) -> Iterator[tuple[str, int, int]]:
    for file in files:
        try:
            found = os.stat(file)  # noqa: PTH116 - as above
        except OSError:
            continue  # just deleted, or not ours to see
        yield file, found.st_mtime_ns, found.st_size
