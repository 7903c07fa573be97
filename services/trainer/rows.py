"""Where a retrain's rows come from: the operator's folder, or the files that a fine-tuning job names."""

from pathlib import Path

import msgspec

from services.dataset.sources import Snapshot, copy_files, take_snapshot

# In faults, reports and snapshots a job's files are called as the request calls them.
TRAINING_FILE, VALIDATION_FILE = "training_file", "validation_file"


class Rows(msgspec.Struct, frozen=True, kw_only=True):
    """What to read.

    Attributes:
        training: the operator's folder, or one JSONL file.
        validation: one JSONL file, held out whole; None holds out a share of ``training``.
    """

    training: Path
    validation: Path | None = None

    @property
    def holdout_file(self) -> str | None:
        """The name in the snapshot of the file that is held out."""
        return VALIDATION_FILE if self.validation else None

    def copy(self, snapshot: Path) -> Snapshot:
        """Copy everything, as ``take_snapshot`` does.

        Raises:
            DataRefused: there is nothing, or the disk is full.
        """
        if self.training.is_dir():
            return take_snapshot(self.training, snapshot)
        files = [(TRAINING_FILE, self.training)]
        if self.validation is not None:
            files.append((VALIDATION_FILE, self.validation))
        return copy_files(files, snapshot)
