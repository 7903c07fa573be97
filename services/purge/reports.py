"""The gate's reports quote held-out rows: those that quote a person's are found, and written anew without these answers."""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from services.common.durable import replace_file, sync_folder
from services.purge.needles import Needles
from services.purge.versions import held_out_places
from services.registry.errors import RegistryError
from services.registry.files import read_regular
from services.registry.layout import Registry
from services.registry.reports import MAX_REPORT_BYTES, REPORTS
from services.trainer.gate.keep import keep_report
from services.trainer.gate.report import Report, ShownAnswer

_Kind = TypeVar("_Kind")


class _Quotes(msgspec.Struct):
    """The part of a report that quotes rows; one on a version that was not asked has none."""

    answers: list[ShownAnswer] = []


def quoting_reports(registry: Registry, needles: Needles, hashes: Collection[str]) -> Iterator[Path]:
    """The reports, for machines, that quote a row; each has a page for people beside it.

    Raises:
        RegistryError: a report cannot be read.
    """
    for adapter in registry.adapters():
        for file in sorted((registry.root / adapter / REPORTS).glob("*.json")):
            answers = _read(file, _Quotes).answers
            if len(_left(registry, file, answers, needles, hashes)) < len(answers):
                yield file


def clean_report(registry: Registry, file: Path, needles: Needles, hashes: Collection[str]) -> None:
    """Write a report without the answers that quote a row; the page of a version that is gone is deleted.

    Raises:
        RegistryError: the report cannot be read or written.
    """
    report = _read(file, Report)
    cleaned = msgspec.structs.replace(report, answers=_left(registry, file, report.answers, needles, hashes))
    adapter, version = file.parent.parent.name, int(file.stem)
    if version in registry.versions(adapter):
        keep_report(registry, adapter, version, cleaned)
        return
    try:
        file.with_suffix(".html").unlink(missing_ok=True)
        sync_folder(file.parent)
        replace_file(file, msgspec.json.format(msgspec.json.encode(cleaned), indent=1))
    except OSError as error:
        raise RegistryError(f"{file}: {error.strerror}; check the volume and its free space") from error


def _left(
    registry: Registry, file: Path, answers: list[ShownAnswer], needles: Needles, hashes: Collection[str]
) -> list[ShownAnswer]:
    places = held_out_places(registry, file.parent.parent.name, int(file.stem), hashes)
    return [
        answer for answer in answers if answer.place not in places and not needles.found_in(msgspec.json.encode(answer))
    ]


def _read(file: Path, kind: type[_Kind]) -> _Kind:
    try:
        return msgspec.json.decode(read_regular(file, most=MAX_REPORT_BYTES), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OSError) as error:
        raise RegistryError(f"{file}: {error}; `make judge VERSION={file.stem}` writes it anew") from error
