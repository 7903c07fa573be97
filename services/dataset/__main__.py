"""Check one file of rows as training would: ``python -m services.dataset FILE``. The server runs it for every upload.

It prints one JSON object: ``{"rows": ...}`` and exit code 0, or ``{"faults": [...]}`` and exit code 3.
"""

import argparse
import hashlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from services.base_model.identity import BaseSettings
from services.common.paths import DataPaths
from services.common.settings import load
from services.dataset.faults import DataRefused
from services.dataset.prepare import prepare
from services.dataset.settings import CheckSettings
from services.dataset.sources import Snapshot, SourceFile

EXIT_BAD_DATA = 3
_NICENESS = 15  # serving goes first


def main(arguments: Sequence[str] | None = None) -> int:
    """Check, print, and say by the exit code."""
    parser = argparse.ArgumentParser(prog="python -m services.dataset", description=__doc__)
    parser.add_argument("file", type=Path)
    file: Path = parser.parse_args(arguments).file
    os.nice(_NICENESS)
    settings, paths = load("training", CheckSettings), DataPaths.from_environment()
    # A file is not judged as a whole here: it may be a small one for validation, or one of several.
    data = msgspec.structs.replace(settings.data, min_rows=1, holdout_share=0.0)
    base_folder = paths.models / load("base", BaseSettings).base_model.name
    try:
        report = prepare(_snapshot(file), file.parent, base_folder, data, settings.recipe.max_length).report
    except DataRefused as error:
        print(msgspec.json.encode({"faults": error.faults}).decode())
        return EXIT_BAD_DATA
    print(msgspec.json.encode({"rows": report.train}).decode())
    return 0


def _snapshot(file: Path) -> Snapshot:
    """The file itself: nobody else writes to it, so no copy is needed."""
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return Snapshot(files=(SourceFile(name=file.name, size=file.stat().st_size, sha256=digest),), faults=())


if __name__ == "__main__":
    sys.exit(main())
