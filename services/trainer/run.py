"""One folder per training run, which belongs to a job and is found again when nothing that matters has changed."""

import hashlib
import secrets
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import msgspec

from services.base_model.identity import BaseModel
from services.common.durable import remove_temporaries, replace_file, sync_folder
from services.common.killpoints import passing

RUN_FILE = "run.json"
EVENTS_FILE = "events.jsonl"
_NEW_PREFIX = ".new-"

# A run that is "running" and has no process was killed; it is continued like one that was "interrupted".
State = Literal["running", "interrupted", "failed", "published"]
_UNFINISHED = frozenset[State]({"running", "interrupted"})


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """What must be equal for a checkpoint to be continued: hashes of the recipe, the rows and the base model's record."""

    recipe: str
    data: str
    base: str


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The content of ``run.json``.

    Attributes:
        job: whose run it is; empty in runs of earlier releases.
    """

    run_id: str
    identity: Identity
    state: State
    started: str
    note: str = ""
    job: str = ""


class Run:
    """A run's folder: ``snapshot/``, ``checkpoints/``, ``adapter/``, ``events.jsonl``, ``loss.svg``, ``run.json``."""

    def __init__(self, folder: Path, record: RunRecord) -> None:
        """Wrap a folder that holds ``record`` or is about to."""
        self.folder = folder
        self.record = record

    @property
    def checkpoints(self) -> Path:
        """Saved states, newest by number."""
        return self.folder / "checkpoints"

    @property
    def adapter(self) -> Path:
        """The finished adapter before it is published."""
        return self.folder / "adapter"

    @property
    def events(self) -> Path:
        """One JSON object a line: every step, checkpoint and change of state."""
        return self.folder / EVENTS_FILE

    @property
    def loss_curve(self) -> Path:
        """The loss over the steps, as SVG."""
        return self.folder / "loss.svg"

    def enter(self, state: State, note: str = "") -> None:
        """Record the run's state durably."""
        self.record = msgspec.structs.replace(self.record, state=state, note=note)
        replace_file(self.folder / RUN_FILE, msgspec.json.encode(self.record) + b"\n")


def identity_of(recipe: Any, data: str, base: BaseModel) -> Identity:
    """Hash the settings that shape the result and the base model's record, beside the hash of the rows.

    The record names every file of the base with its hash: tokenizer and chat template decide what is trained, too.
    """
    return Identity(recipe=_hash(recipe), data=data, base=_hash(base))


def _hash(struct: Any) -> str:
    return hashlib.sha256(msgspec.json.encode(msgspec.to_builtins(struct), order="deterministic")).hexdigest()


def discard(folder: Path) -> None:
    """Delete a run's folder; what a kill leaves of it is no run, and goes with the next ``fresh_folder``.

    Raises:
        OSError: it cannot be deleted.
    """
    doomed = folder.with_name(f"{_NEW_PREFIX}{secrets.token_hex(6)}")
    folder.rename(doomed)
    sync_folder(folder.parent)
    shutil.rmtree(doomed)


@contextmanager
def fresh_folder(runs: Path) -> Iterator[Path]:
    """A folder for a run that does not know its identity yet; gone at the end unless ``begin`` made it a run's.

    It holds a copy of all rows, so those of killed processes are removed first.
    """
    runs.mkdir(parents=True, exist_ok=True)
    for leftover in runs.glob(f"{_NEW_PREFIX}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    folder = runs / f"{_NEW_PREFIX}{secrets.token_hex(6)}"
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def begin(runs: Path, fresh: Path, identity: Identity, job: str, unfinished: Collection[str]) -> tuple[Run, str]:
    """Continue the run of ``job`` if its identity is the same, else make ``fresh`` a run of its own.

    An interrupted run of the same identity whose own job has ended is as good: it is handed over to ``job``.

    Args:
        runs: the folder of all runs.
        fresh: what ``fresh_folder`` made.
        identity: of what ``job`` trains now.
        job: whose run it will be.
        unfinished: jobs that may yet continue runs of their own.

    Returns:
        The run, and one sentence on what was decided and why.
    """
    every = _all(runs)
    own = [run for run in every if run.record.job == job and run.record.state != "failed"]
    left = [run for run in every if run.record.job not in {job, *unfinished} and run.record.state in _UNFINISHED]
    for run in (*reversed(own), *reversed(left)):
        if run.record.identity == identity:
            remove_temporaries(run.folder)
            run.record = msgspec.structs.replace(run.record, job=job)
            run.enter("running" if run.record.state in _UNFINISHED else run.record.state, run.record.note)
            return run, f"continuing run {run.record.run_id}, which did not finish"
    now = datetime.now(UTC)
    run_id = f"{now:%Y%m%dT%H%M%S.%f}-{secrets.token_hex(3)}"  # in order of time, within a second too
    folder = runs / run_id
    passing("run: copied")
    fresh.rename(folder)
    passing("run: named")
    run = Run(folder, RunRecord(run_id=run_id, identity=identity, state="running", started=now.isoformat(), job=job))
    run.checkpoints.mkdir()
    run.enter("running")
    if not own:
        return run, f"run {run_id}"
    last = own[-1].record
    changed = [
        field for field in Identity.__struct_fields__ if getattr(last.identity, field) != getattr(identity, field)
    ]
    return run, f"run {run_id}, from the start: {', '.join(changed)} changed since run {last.run_id} was interrupted"


def prune(runs: Path, keep: int, used: Run, unfinished: Collection[str]) -> None:
    """Delete every run but ``used``, the newest ``keep`` and those of ``unfinished`` jobs: each holds a copy of the rows."""
    stay = {used.folder, *(run.folder for run in _all(runs) if run.record.job in unfinished)}
    folders = sorted(entry for entry in runs.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    for folder in folders[:-keep]:
        if folder not in stay:
            shutil.rmtree(folder, ignore_errors=True)


def _all(runs: Path) -> list[Run]:
    found = []
    for file in sorted(runs.glob(f"*/{RUN_FILE}")):
        try:
            found.append(Run(file.parent, msgspec.json.decode(file.read_bytes(), type=RunRecord)))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue  # a run whose record is damaged cannot be continued
    return found
