"""``python -m services.server usage``: what each key has used, by model and day."""

import argparse
import csv
import sys
from datetime import date

import msgspec

from services.common.paths import DataPaths


def add_usage_verb(parser: argparse.ArgumentParser) -> None:
    """Fill the verb's parser; it sets ``run``."""
    parser.add_argument(
        "--from", dest="first", type=_day, default="0001-01-01", metavar="DAY", help="first day, in UTC"
    )
    parser.add_argument("--to", dest="last", type=_day, default="9999-12-31", metavar="DAY", help="last day, in UTC")
    parser.add_argument("--json", action="store_true", help="print JSON instead of CSV")
    parser.set_defaults(run=_usage)


def _usage(parsed: argparse.Namespace) -> int:
    # Imported here: a database's libraries, which `status`, run every few seconds as a healthcheck, does without.
    from services.server.usage.book import Book, Entry, Used  # noqa: PLC0415

    file = DataPaths.from_environment().usage
    found = Book(file).read(parsed.first, parsed.last) if file.exists() else []
    rows = [msgspec.structs.asdict(entry) | msgspec.structs.asdict(used) for entry, used in found]
    if parsed.json:
        print(msgspec.json.encode(rows).decode())
        return 0
    writer = csv.DictWriter(sys.stdout, (*Entry.__struct_fields__, *Used.__struct_fields__), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return 0


def _day(text: str) -> str:
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: want a day, such as 2026-11-26") from error
