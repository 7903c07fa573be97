"""Removing what was found: each file at once, from a copy without the rows; folders of copies whole."""

import os
import shutil
import stat
from collections.abc import Collection
from pathlib import Path

from services.common.durable import sync_folder
from services.common.paths import DataPaths
from services.purge.findings import Findings
from services.purge.needles import Needles
from services.purge.reports import clean_report
from services.registry.files import open_regular
from services.registry.layout import Registry
from services.trainer.run import discard
from services.trainer.work.desk import Desk

_SWEPT_AFTER = 3600.0  # seconds: an upload under way is younger


class FileChanged(Exception):
    """A file was written while it was purged; the message names it."""


def remove(paths: DataPaths, desk: Desk, findings: Findings, needles: Needles, hashes: Collection[str]) -> None:
    """Remove everything that was found. Called again after a failure or a kill, it removes the rest.

    The runs' copies go last: while they are there, the versions that learnt the rows can still be named.

    Args:
        paths: where everything lies.
        desk: the queue, which nobody works on meanwhile.
        findings: of this moment.
        needles: what was looked for.
        hashes: of the rows that were found.

    Raises:
        OSError: a volume cannot be written; what went until then is gone.
        JobsError: likewise.
        RegistryError: likewise.
        FileChanged: somebody else writes to the datasets.
    """
    writable([paths.root / found.file for found in findings.datasets])
    desk.files.sweep(_SWEPT_AFTER)  # expired ones hold rows, too
    for found in findings.datasets:
        _rewrite(paths.root / found.file, needles)
    for found in findings.uploads:
        file = paths.root / found.file
        if file.exists():
            content = desk.files.scratch()
            _copy_without(file, content, needles)
            desk.files.replace(file.name, content)
    for name in findings.reports:
        clean_report(Registry(paths.registry), paths.root / name, needles, hashes)
    for name in findings.runs:
        folder = paths.root / name
        discard(folder) if folder.parent == paths.runs else shutil.rmtree(folder)
    findings.removed = True


def writable(files: Collection[Path]) -> None:
    """Make sure beforehand that all can be written: half a purge is worse than none.

    Raises:
        PermissionError: one cannot.
    """
    for file in files:
        if not os.access(file.parent, os.W_OK):
            reason = (
                f"not writable for user {os.getuid()}, as whom containers run (chown -R {os.getuid()} the datasets)"
            )
            raise PermissionError(13, reason, str(file.parent))


def _rewrite(file: Path, needles: Needles) -> None:
    before = file.stat()
    # One name for every try: what a kill leaves, the next purge of this file overwrites; and it is no ``.jsonl``.
    clean = file.with_name(f".{file.name}.purging")
    clean.unlink(missing_ok=True)
    try:
        _copy_without(file, clean, needles)
        clean.chmod(stat.S_IMODE(before.st_mode))
        now = file.stat()
        if (now.st_ino, now.st_size, now.st_mtime_ns) != (before.st_ino, before.st_size, before.st_mtime_ns):
            raise FileChanged(
                f"{file} was written to meanwhile; nothing of it was changed. Try again when it is at rest"
            )
        clean.replace(file)
    finally:
        clean.unlink(missing_ok=True)
    sync_folder(file.parent)


def _copy_without(file: Path, clean: Path, needles: Needles) -> None:
    with open_regular(file) as stream, clean.open("xb") as copy:
        for line in stream:
            if not needles.found_in(line):
                copy.write(line)
        copy.flush()
        os.fsync(copy.fileno())
