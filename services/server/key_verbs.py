"""``python -m services.server key``: make, list, rotate and revoke API keys."""

import argparse
import re
from datetime import UTC, datetime, timedelta
from typing import get_args

import msgspec

from services.common.paths import DataPaths
from services.server.keys import ALL_MODELS, Key, KeyFile, KeyLimits, Role

_ROLES: tuple[Role, ...] = get_args(Role)
_MOST = 10**12
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
_MOMENT = "day or moment in ISO 8601, UTC where no zone is given"


def add_key_verbs(parser: argparse.ArgumentParser) -> None:
    """Add the actions to the verb's parser; each sets ``run``."""
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    add = actions.add_parser("add", help="make a key and print it, once")
    add.add_argument("name", help="who it is for; appears in the log")
    add.add_argument(
        "--models", type=_names, default=[ALL_MODELS], help="names it may use, by commas; all if not given"
    )
    add.add_argument(
        "--roles", type=_roles, default=["inference"], help=f"by commas, of {', '.join(_ROLES)}; inference if not given"
    )
    for option, what in (
        ("--rpm", "requests a minute"),
        ("--tpm", "tokens a minute, of prompts and answers"),
        ("--tokens-per-day", "tokens a day (UTC), of prompts and answers"),
    ):
        add.add_argument(option, type=_count, metavar="N", help=f"at most N {what}; no limit if not given")
    add.add_argument("--expires", type=_moment, help=_MOMENT)
    add.set_defaults(run=_add)
    listing = actions.add_parser("list", help="list keys, without the keys")
    listing.add_argument("--json", action="store_true", help="print JSON")
    listing.set_defaults(run=_list)
    rotate = actions.add_parser("rotate", help="give a key another secret and print it, once")
    rotate.add_argument("name")
    rotate.add_argument(
        "--grace",
        type=_span,
        default=timedelta(),
        help="how long the old one counts beside it, such as 30m, 24h or 7d; it ends at once if not given",
    )
    rotate.add_argument("--expires", type=_moment, help=f"{_MOMENT}; as the old one's if not given")
    rotate.set_defaults(run=_rotate)
    revoke = actions.add_parser("revoke", help="make a key count no more, at once")
    revoke.add_argument("name")
    revoke.set_defaults(run=_revoke)


def _file() -> KeyFile:
    return KeyFile(DataPaths.from_environment().keys / "keys.json")


def _add(parsed: argparse.Namespace) -> int:
    limits = KeyLimits(
        requests_per_minute=parsed.rpm, tokens_per_minute=parsed.tpm, tokens_per_day=parsed.tokens_per_day
    )
    print(_file().add(parsed.name, parsed.models, parsed.expires, roles=parsed.roles, limits=limits))
    return 0


def _list(parsed: argparse.Namespace) -> int:
    keys = _file().load()
    if parsed.json:
        print(msgspec.json.encode([msgspec.structs.replace(key, sha256="") for key in keys]).decode())
        return 0
    for key in keys:
        print(
            key.name,
            _state(key),
            f"models {','.join(key.models)}",
            f"roles {','.join(_ROLES if key.roles is None else key.roles)}",
            *_limits(key.limits),
            f"made {key.created}",
            f"expires {key.expires or 'never'}",
            sep="\t",
        )
    return 0


def _limits(limits: KeyLimits) -> list[str]:
    told = (
        ("requests a minute", limits.requests_per_minute),
        ("tokens a minute", limits.tokens_per_minute),
        ("tokens a day", limits.tokens_per_day),
    )
    return [f"{limit} {what}" for what, limit in told if limit is not None]


def _state(key: Key) -> str:
    if key.counts(datetime.now(UTC)):
        return "counts" if key.replaced is None else "replaced, counts still"
    if key.replaced is not None:
        return "replaced"
    return "revoked" if key.revoked else "expired"


def _rotate(parsed: argparse.Namespace) -> int:
    print(_file().rotate(parsed.name, grace=parsed.grace, expires=parsed.expires))
    return 0


def _revoke(parsed: argparse.Namespace) -> int:
    _file().revoke(parsed.name)
    return 0


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _roles(text: str) -> list[str]:
    names = _names(text)
    if not names or not set(names) <= set(_ROLES):
        raise argparse.ArgumentTypeError(f"{text!r}: want one or more of {','.join(_ROLES)}, by commas")
    return names


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= _MOST):
        raise argparse.ArgumentTypeError(f"{text!r}: want a whole number from 1 to {_MOST}")
    return int(text)


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: want a day or a moment, such as 2027-01-31") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _span(text: str) -> timedelta:
    found = re.fullmatch(r"(\d{1,5})([mhd])", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r}: want minutes, hours or days, such as 30m, 24h or 7d")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})
