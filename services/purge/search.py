"""Looking through everything that holds rows. Nothing is changed here."""

import os
from collections.abc import Iterator
from pathlib import Path

from services.common.paths import DataPaths
from services.dataset.sources import printable
from services.jobs.database import Database
from services.jobs.files import FileStore
from services.purge.findings import Findings, FoundRows
from services.purge.hashes import Hasher
from services.purge.needles import Needles
from services.purge.reports import quoting_reports
from services.purge.versions import find_versions
from services.registry.files import open_regular
from services.registry.layout import Registry

_SNAPSHOT = "snapshot"


class Search:
    """One search through a data root.

    Args:
        paths: where everything lies.
        needles: what to look for.
        hasher: makes of a row the hashes by which versions know it.
    """

    def __init__(self, paths: DataPaths, needles: Needles, hasher: Hasher) -> None:
        self._paths, self._needles, self._hasher = paths, needles, hasher
        self._hashes: set[str] = set()

    def __call__(self) -> Findings:
        """Everything that was found.

        Raises:
            OSError: something cannot be read; what cannot be searched must not count as clean.
            JobsError: the queue's database cannot be read.
            RegistryError: the registry cannot be listed, or a report not read.
        """
        findings = Findings(needles=[0] * len(self._needles))
        for file in datasets_of(self._paths.datasets, findings.not_searched):
            name = file.relative_to(self._paths.root).as_posix()
            findings.datasets += self._rows(file, FoundRows(file=name), findings.needles)
        for file, owner in self._uploads():
            name = file.relative_to(self._paths.root).as_posix()
            findings.uploads += self._rows(file, FoundRows(file=name, owner=owner), findings.needles)
        for folder in self._copies():
            if self._copied(folder):
                findings.runs.append(folder.relative_to(self._paths.root).as_posix())
        registry = Registry(self._paths.registry)
        find_versions(registry, self._hashes, findings)
        findings.reports = [
            file.relative_to(self._paths.root).as_posix()
            for file in quoting_reports(registry, self._needles, self._hashes)
        ]
        return findings

    @property
    def hashes(self) -> set[str]:
        """Of every row that was found."""
        return self._hashes

    def _rows(self, file: Path, found: FoundRows, counts: list[int]) -> list[FoundRows]:
        with open_regular(file) as stream:
            for number, line in enumerate(stream, start=1):
                if which := self._needles.found_in(line):
                    found.add(number)
                    self._hashes |= self._hasher(line)
                    for needle in which:
                        counts[needle] += 1
        return [found] if found.rows else []

    def _uploads(self) -> Iterator[tuple[Path, str]]:
        if self._paths.jobs_database.exists():  # a dry run does not make one
            store = FileStore(Database(self._paths.jobs_database), self._paths.job_files)
            for stored in store.list(purpose="fine-tune", order="asc").data:
                yield store.path_of(stored), stored.owner

    def _copies(self) -> Iterator[Path]:
        """Folders that hold a copy of rows: runs, finished or not, and what a killed check left."""
        for parent, pattern in ((self._paths.runs, "*"), (self._paths.cache / "trainer", "whetstone-*")):
            yield from sorted(entry for entry in parent.glob(pattern) if entry.is_dir() and not entry.is_symlink())

    def _copied(self, folder: Path) -> bool:
        files = sorted(path for path in (folder / _SNAPSHOT).rglob("*") if path.is_file() and not path.is_symlink())
        counts = [0] * len(self._needles)  # not told: they are copies
        found = [self._rows(file, FoundRows(file=""), counts) for file in files]  # all of them: for their hashes
        return any(found)


def datasets_of(datasets: Path, others: list[str]) -> Iterator[Path]:
    """The files that rows are read from, in order of name; whatever else lies there is named in ``others``.

    Raises:
        OSError: a folder cannot be listed.
    """

    def fail(error: OSError) -> None:
        raise error

    for parent, folders, names in os.walk(datasets, onerror=fail):
        folders.sort()
        others += [_name(parent, name, datasets) for name in folders if Path(parent, name).is_symlink()]
        for name in sorted(names):
            file = Path(parent, name)
            if name.endswith(".jsonl") and printable(name) == name and file.is_file() and not file.is_symlink():
                yield file
            else:
                others.append(_name(parent, name, datasets))


def _name(parent: str, name: str, datasets: Path) -> str:
    return printable(Path(parent, name).relative_to(datasets.parent).as_posix())
