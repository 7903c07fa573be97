"""Serve the base model and its adapters, ask a running server how it is, manage API keys."""

import argparse
import sys
from datetime import UTC, datetime

import msgspec
from rich.console import Console

from services.base_model.errors import BaseModelError
from services.base_model.identity import BaseSettings, read_base_model
from services.common.consoles import unbroken
from services.common.logs import configure_logs
from services.common.paths import DataPaths
from services.common.settings import SettingsError, load
from services.jobs.settings import JobDefaults
from services.server.errors import StartRefused
from services.server.keys import ALL_MODELS, KeyFile, KeysError
from services.server.settings import ServerSettings
from services.server.status import NoAnswer, ask, show


def main(arguments: list[str] | None = None) -> int:
    """Run one verb.

    Returns:
        the exit code: 0, or 1 with one sentence on standard error.
    """
    parsed = _parser().parse_args(arguments)
    try:
        return int(parsed.run(parsed))
    except (SettingsError, BaseModelError, StartRefused, KeysError, NoAnswer) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m services.server", description=__doc__)
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--set", action="append", default=[], metavar="TABLE.KEY=VALUE", help="override a setting of config/server.toml"
    )

    serving = verbs.add_parser("serve", parents=[common], help="start the server; ends on SIGTERM after draining")
    serving.add_argument("--json-logs", action=argparse.BooleanOptionalAction, help="force JSON log lines on or off")
    serving.set_defaults(run=_serve)

    status = verbs.add_parser("status", parents=[common], help="ask the running server; exit code 0 if it is ready")
    status.add_argument("--json", action="store_true", help="print JSON")
    status.set_defaults(run=_status)

    key = verbs.add_parser("key", help="make, list and revoke API keys")
    actions = key.add_subparsers(required=True, metavar="ACTION")
    add = actions.add_parser("add", help="make a key and print it, once")
    add.add_argument("name", help="who it is for; appears in the log")
    add.add_argument("--models", default=ALL_MODELS, help="names it may use, by commas; all where not given")
    add.add_argument("--expires", type=_moment, help="day or moment in ISO 8601, UTC where no zone is given")
    add.set_defaults(run=_key_add)
    listing = actions.add_parser("list", help="list keys, without the keys")
    listing.add_argument("--json", action="store_true", help="print JSON")
    listing.set_defaults(run=_key_list)
    revoke = actions.add_parser("revoke", help="make a key count no more, at once")
    revoke.add_argument("name")
    revoke.set_defaults(run=_key_revoke)
    return parser


def _serve(parsed: argparse.Namespace) -> int:
    # Imported here: the other verbs need none of it, and ``status`` is run every few seconds as a healthcheck.
    import uvloop  # noqa: PLC0415

    from services.server.serve import Plan, serve, vllm_starter  # noqa: PLC0415

    settings = load("server", ServerSettings, parsed.set)
    configure_logs(level=settings.server.log_level, as_json=parsed.json_logs)
    paths = DataPaths.from_environment()
    base = read_base_model(paths.models, load("base", BaseSettings).base_model)
    plan = Plan(
        settings=settings,
        paths=paths,
        base=base,
        defaults=load("training", JobDefaults),
        start_engine=vllm_starter(settings, paths, base),
    )
    return int(uvloop.run(serve(plan)))


def _status(parsed: argparse.Namespace) -> int:
    ready, readiness = ask(load("server", ServerSettings, parsed.set).server)
    if parsed.json:
        print(msgspec.json.encode(readiness).decode())
    else:
        show(readiness, unbroken(Console()))
    return 0 if ready else 1


def _key_file() -> KeyFile:
    return KeyFile(DataPaths.from_environment().keys / "keys.json")


def _key_add(parsed: argparse.Namespace) -> int:
    models = [name.strip() for name in parsed.models.split(",") if name.strip()]
    print(_key_file().add(parsed.name, models, parsed.expires))
    return 0


def _key_list(parsed: argparse.Namespace) -> int:
    keys = _key_file().load()
    if parsed.json:
        print(msgspec.json.encode([msgspec.structs.replace(key, sha256="") for key in keys]).decode())
        return 0
    for key in keys:
        state = "counts" if key.counts(datetime.now(UTC)) else "revoked" if key.revoked else "expired"
        print(
            f"{key.name}\t{state}\tmodels {','.join(key.models)}\tmade {key.created}\texpires {key.expires or 'never'}"
        )
    return 0


def _key_revoke(parsed: argparse.Namespace) -> int:
    _key_file().revoke(parsed.name)
    return 0


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: want a day or a moment, such as 2027-01-31") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


if __name__ == "__main__":
    sys.exit(main())
