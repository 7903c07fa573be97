"""What is replaced in the rows is replaced in a run's copy of the files, too; the operator's own are never changed."""

import json
from pathlib import Path

from services.dataset.personal.inspector import Inspector
from services.dataset.personal.settings import PersonalSettings
from services.dataset.report import DataReport


def redact_files(snapshot: Path, report: DataReport, settings: PersonalSettings) -> None:
    """Write the copies anew where something is replaced, line by line.

    Args:
        snapshot: the copies of the files that the report names.
        report: on rows without a fault.
        settings: those by which it was made.

    Raises:
        OSError: the volume cannot be written.
    """
    if not any(kind.policy == "redact" for kind in report.personal):
        return
    inspector = Inspector(settings)
    for file in report.files:
        copy = snapshot / file.file
        clean = copy.with_name(f"{copy.name}.redacted")
        with copy.open("rb") as lines, clean.open("wb") as stream:
            for line in lines:
                stream.write(_redacted(line, inspector))
        clean.replace(copy)


def _redacted(line: bytes, inspector: Inspector) -> bytes:
    if not line.strip():
        return line
    row = json.loads(line)
    inspector(row, "", 0)
    return json.dumps(row, ensure_ascii=False).encode() + b"\n"
