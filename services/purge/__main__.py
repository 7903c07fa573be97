"""Find a person's rows and remove them: ``python -m services.purge < TEXTS``, one text to look for a line."""

import argparse
import sys
from collections.abc import Sequence

import msgspec

from services.common.paths import DataPaths
from services.common.settings import SettingsError
from services.jobs.errors import JobsError
from services.purge.findings import Findings
from services.purge.hashes import Hasher
from services.purge.needles import Needles, NeedlesRefused
from services.purge.remove import FileChanged, remove
from services.purge.say import next_steps, said
from services.purge.search import Search
from services.registry.errors import RegistryBusy, RegistryError
from services.trainer.say import reason_of
from services.trainer.work.desk import Desk
from services.trainer.work.settings import training_settings

DONE, FAILED, USAGE, FOUND, BUSY = range(5)
_EXPLAINED = "exit codes: 0 nothing holds it, or it is removed; 1 failed; 2 wrong call or setting; 3 found, and nothing changed; 4 the trainer works"


def main(arguments: Sequence[str] | None = None) -> int:
    """Search, and with ``--yes`` remove; see ``--help`` for the exit codes."""
    parser = argparse.ArgumentParser(prog="python -m services.purge", description=__doc__, epilog=_EXPLAINED)
    parser.add_argument("--yes", action="store_true", help="remove what is found; without it nothing is changed")
    parser.add_argument("--json", action="store_true", help="print JSON on standard output, for machines")
    options = parser.parse_args(arguments)
    try:
        # Not as an argument: those are in lists of processes and in Docker's records.
        needles = Needles(sys.stdin.buffer.read().decode("utf-8").splitlines())
        hasher = Hasher(training_settings([]).data.personal)
        findings = _purge(DataPaths.from_environment(), needles, hasher, options)
    except UnicodeDecodeError:
        return _fail("the texts to look for are not UTF-8: save the file as UTF-8", USAGE)
    except (NeedlesRefused, SettingsError) as error:
        return _fail(str(error), USAGE)
    except RegistryBusy as error:
        return _fail(f"{error}. `docker compose stop trainer` ends it; `make up` starts it again", BUSY)
    except (JobsError, RegistryError, FileChanged) as error:
        return _fail(str(error), FAILED)
    except OSError as error:
        return _fail(reason_of(error), FAILED)
    for line in () if options.json else next_steps(findings):
        print(line)
    return FOUND if findings.anything and not findings.removed else DONE


def _purge(paths: DataPaths, needles: Needles, hasher: Hasher, options: argparse.Namespace) -> Findings:
    if not options.yes:
        findings = _searched(Search(paths, needles, hasher), options)
        _as_json(findings, options)
        return findings
    desk, search = Desk(paths), Search(paths, needles, hasher)
    with desk.work.holding():  # a job under way would write new copies
        findings = _searched(search, options)
        try:
            remove(paths, desk, findings, needles, search.hashes)
        finally:  # half a purge, too, leaves nothing that names the versions
            _as_json(findings, options)
    return findings


def _as_json(findings: Findings, options: argparse.Namespace) -> None:
    if options.json:
        print(msgspec.json.encode(findings).decode(), flush=True)


def _searched(search: Search, options: argparse.Namespace) -> Findings:
    """Said before anything is removed: afterwards nothing tells which versions learnt the rows."""
    findings = search()
    for line in () if options.json else said(findings):
        print(line, flush=True)
    return findings


def _fail(message: str, code: int) -> int:
    print(f"purge: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
