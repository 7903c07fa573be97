"""Check one file of rows as training would: ``python -m services.dataset FILE``. The server runs it for every upload.

It prints one JSON object: ``{"rows": ..., "personal": {...}}`` and exit code 0, or ``{"count": ..., "faults": [...]}``, the first
of them, and exit code 3. The file stays as it is.
"""

import argparse
import contextlib
import hashlib
import os
import resource
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from services.base_model.identity import BaseSettings
from services.common.paths import DataPaths
from services.common.settings import load
from services.dataset.faults import DataRefused, Fault, Fit, Refusal
from services.dataset.personal.inspector import Inspector
from services.dataset.prepare import prepare, read_rows
from services.dataset.report import DataReport
from services.dataset.settings import CheckSettings, DataSettings
from services.dataset.sources import Snapshot, SourceFile
from services.dataset.tokenizer import Tokenizers

EXIT_BAD_DATA = 3
_NICENESS = 15  # serving goes first
_SHOWN = 20
_HOPELESS = 1000  # bad lines, over which what else may be wrong is not looked for


def main(arguments: Sequence[str] | None = None) -> int:
    """Check, print, and say by the exit code."""
    parser = argparse.ArgumentParser(prog="python -m services.dataset", description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--memory-bytes", type=int, required=True, help="a file that takes more is refused")
    options = parser.parse_args(arguments)
    base_folder = DataPaths.from_environment().models / load("base", BaseSettings).base_model.name
    _step_back()
    tokenizers = _get_ready(base_folder)
    _keep_within(options.memory_bytes)
    try:
        report = _check(options.file, base_folder, tokenizers)
    except DataRefused as error:
        refusal = Refusal(len(error.faults), error.faults[:_SHOWN])
    except _Hopeless as error:
        refusal = error.refusal
    except MemoryError:
        _keep_within(resource.getrlimit(resource.RLIMIT_DATA)[1])  # or saying so may find none, either
        reason = f"checking it takes over {options.memory_bytes >> 20} MiB of memory"
        refusal = Refusal(1, [Fault(file="", reason=reason, remedy="Split it into smaller files")])
    else:
        fit = Fit(report.train, {kind.kind: kind.count for kind in report.personal})
        print(msgspec.json.encode(fit).decode())
        return 0
    print(msgspec.json.encode(refusal).decode())
    return EXIT_BAD_DATA


class _Hopeless(Exception):
    """So many bad lines that the rest is not worth a look."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__()
        self.refusal = refusal


def _step_back() -> None:
    """Let serving have the processor first, and let this process be the one that goes when the machine's memory is short."""
    os.nice(_NICENESS)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def _get_ready(base_folder: Path) -> Tokenizers:
    """Import, load and start its threads before there is a limit: an import that finds no memory may raise anything, and a thread hang."""
    os.environ["RUST_BACKTRACE"] = "0"  # one that finds no memory hangs, too
    tokenizers = Tokenizers()
    with contextlib.suppress(Exception):  # whatever is wrong with its files is said where the rows ask for them
        tokenizers.get_ready(base_folder)
        tokenizers(base_folder)(["-", "-"])
    return tokenizers


def _keep_within(memory_bytes: int) -> None:
    """Refuse this process more than that."""
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, resource.getrlimit(resource.RLIMIT_DATA)[1]))


def _check(file: Path, base_folder: Path, tokenizers: Tokenizers) -> DataReport:
    """What would be learnt.

    Raises:
        DataRefused: with every fault.
        _Hopeless: with the first of very many.
        MemoryError: the rows take more than is allowed.
    """
    settings = load("training", CheckSettings)
    # A file is not judged as a whole here: it may be a small one for validation, or one of several.
    data = msgspec.structs.replace(settings.data, min_rows=1, holdout_share=0.0)
    _read_through(file, data)
    length = settings.recipe.max_length
    return prepare(_snapshot(file), file.parent, base_folder, data, length, load=tokenizers).report


def _read_through(file: Path, data: DataSettings) -> None:
    """Give a file up that is no rows at all, without holding a fault for each of its lines."""
    count, first = 0, list[Fault]()
    for item in read_rows(file, file.name, Inspector(data.personal), max_line_bytes=data.max_line_bytes):
        if isinstance(item, Fault):
            count += 1
            if len(first) < _SHOWN:
                first.append(item)
    if count > _HOPELESS:
        raise _Hopeless(Refusal(count, first))


def _snapshot(file: Path) -> Snapshot:
    """The file itself: nobody else writes to it, so no copy is needed."""
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return Snapshot(files=(SourceFile(name=file.name, size=file.stat().st_size, sha256=digest),), faults=())


if __name__ == "__main__":
    sys.exit(main())
