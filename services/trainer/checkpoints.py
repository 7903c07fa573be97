"""Checkpoints that prove they are whole: hashes written last, checked before one is continued."""

import re
import shutil
from pathlib import Path

import msgspec
import structlog

from services.common.durable import replace_file, sync_file, sync_folder
from services.registry.check import file_record
from services.registry.manifest import FileRecord

SEAL = "complete.json"
_NAME = re.compile(r"checkpoint-[0-9]+")


def seal(checkpoint: Path) -> None:
    """Mark a checkpoint as whole: sync every file and name, then write their sizes and hashes.

    Raises:
        OSError: the disk is full; the checkpoint stays unsealed and is never used.
    """
    records = {}
    for file in sorted(checkpoint.rglob("*")):
        if file.is_dir():
            sync_folder(file)
        elif file.is_file() and file.name != SEAL:
            sync_file(file)
            records[str(file.relative_to(checkpoint))] = file_record(file)
    replace_file(checkpoint / SEAL, msgspec.json.encode(records))
    sync_folder(checkpoint.parent)  # else a power cut may take its name, though the one before is deleted for it


def newest_whole(folder: Path) -> Path | None:
    """The checkpoint with the most steps whose every file matches its seal; None where there is none.

    What is newer and damaged is deleted: it would count towards ``checkpoints.keep``, and the next one saved would push a
    whole one out before it is itself sealed.

    Raises:
        OSError: a checkpoint cannot be read or deleted.
    """
    log = structlog.get_logger()
    for checkpoint in sorted((entry for entry in folder.iterdir() if _NAME.fullmatch(entry.name)), key=step_of)[::-1]:
        if (damage := _damage(checkpoint)) is None:
            return checkpoint
        log.warning("checkpoint deleted", checkpoint=checkpoint.name, reason=damage)
        shutil.rmtree(checkpoint)
    return None


def step_of(checkpoint: Path) -> int:
    """After how many updates a checkpoint was saved."""
    return int(checkpoint.name.rpartition("-")[2])


def _damage(checkpoint: Path) -> str | None:
    try:
        records = msgspec.json.decode((checkpoint / SEAL).read_bytes(), type=dict[str, FileRecord])
    except FileNotFoundError:
        return "it was never finished"
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return f"{SEAL} is damaged"
    for name, record in records.items():
        file = checkpoint / name
        if not file.is_file() or file.stat().st_size != record.size or file_record(file) != record:
            return f"{name} is damaged"
    return None
