"""Where things lie under the data root."""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class DataPaths:
    """The folders below one data root; in containers each is a mount of its own."""

    root: Path

    @classmethod
    def from_environment(cls) -> "DataPaths":
        """Take the root from ``WHETSTONE_DATA``; ``data`` below the working directory where that is unset."""
        return cls(Path(os.environ.get("WHETSTONE_DATA") or "data").absolute())

    @property
    def datasets(self) -> Path:
        """The operator's JSONL files; read only."""
        return self.root / "datasets"

    @property
    def models(self) -> Path:
        """One folder per base model, written by ``make model``."""
        return self.root / "models"

    @property
    def runs(self) -> Path:
        """One folder per training run: snapshot, events, loss curve, checkpoints."""
        return self.root / "runs"

    @property
    def registry(self) -> Path:
        """Published adapter versions and their pointers."""
        return self.root / "registry"

    @property
    def jobs_database(self) -> Path:
        """The job queue, between server and trainer."""
        return self.root / "jobs" / "jobs.sqlite"

    @property
    def job_files(self) -> Path:
        """Uploaded rows and jobs' results."""
        return self.root / "jobs" / "files"

    @property
    def stored_responses(self) -> Path:
        """Responses that apps may go on from; the server's alone."""
        return self.root / "responses" / "responses.sqlite"

    @property
    def usage(self) -> Path:
        """What each key has used; the server writes it."""
        return self.root / "usage" / "usage.sqlite"

    @property
    def keys(self) -> Path:
        """The API keys' hashes."""
        return self.root / "keys"

    @property
    def server_socket(self) -> Path:
        """The server's private socket, by which the gate asks; it has a closed list of routes and needs no key."""
        return self.root / "run" / "server.sock"

    @property
    def canary_trips(self) -> Path:
        """Canaries that the server ended: it may not write to the registry."""
        return self.root / "run" / "canaries.json"

    @property
    def cache(self) -> Path:
        """Scratch that may be deleted at any time."""
        return self.root / "cache"
