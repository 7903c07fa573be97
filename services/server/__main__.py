"""Serve the base model and its adapters, ask a running server how it is, manage API keys."""

import argparse
import os
import sys

import msgspec
from rich.console import Console

from services.base_model.errors import BaseModelError
from services.base_model.identity import BaseSettings, read_base_model
from services.base_model.shapes import read_shapes
from services.common.consoles import unbroken
from services.common.logs import configure_logs
from services.common.paths import DataPaths
from services.common.settings import SettingsError, load
from services.jobs.errors import DatabaseUnusable
from services.jobs.settings import JobDefaults
from services.server.errors import StartRefused
from services.server.key_verbs import add_key_verbs
from services.server.keys import KeysError
from services.server.settings import ServerSettings
from services.server.status import NoAnswer, ask, show
from services.server.usage_verbs import add_usage_verb


def main(arguments: list[str] | None = None) -> int:
    """Run one verb.

    Returns:
        the exit code: 0, or 1 with one sentence on standard error.
    """
    parsed = _parser().parse_args(arguments)
    try:
        return int(parsed.run(parsed))
    except (SettingsError, BaseModelError, StartRefused, KeysError, NoAnswer, DatabaseUnusable) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m services.server", description=__doc__)
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    serving = verbs.add_parser("serve", help="start the server; ends on SIGTERM after draining")
    serving.add_argument(
        "--set", action="append", default=[], metavar="TABLE.KEY=VALUE", help="override a setting of config/server.toml"
    )
    serving.add_argument("--json-logs", action=argparse.BooleanOptionalAction, help="force JSON log lines on or off")
    serving.set_defaults(run=_serve)

    status = verbs.add_parser("status", help="ask the running server; exit code 0 if it is ready")
    status.add_argument("--json", action="store_true", help="print JSON")
    status.set_defaults(run=_status)

    add_usage_verb(verbs.add_parser("usage", help="say what each key has used, by model and day, as CSV"))
    add_key_verbs(verbs.add_parser("key", help="make, list, rotate and revoke API keys"))
    return parser


def _serve(parsed: argparse.Namespace) -> int:
    # Imported here: the other verbs need none of it, and ``status`` is run every few seconds as a healthcheck.
    import uvloop  # noqa: PLC0415

    from services.server.engine.starter import vllm_starter  # noqa: PLC0415
    from services.server.serve import Plan, serve_and_leave  # noqa: PLC0415

    settings = load("server", ServerSettings, parsed.set)
    configure_logs(level=settings.server.log_level, as_json=parsed.json_logs)
    paths = DataPaths.from_environment()
    base = read_base_model(paths.models, load("base", BaseSettings).base_model)
    plan = Plan(
        settings=settings,
        paths=paths,
        base=base,
        base_shapes=read_shapes(paths.models / base.name),
        defaults=load("training", JobDefaults),
        start_engine=vllm_starter(settings, paths, base, json_logs=parsed.json_logs),
        published_at=os.environ.get("WHETSTONE_PUBLISHED_AT", ""),
    )
    return int(uvloop.run(serve_and_leave(plan)))


def _status(parsed: argparse.Namespace) -> int:
    ready, readiness = ask(DataPaths.from_environment().server_socket)
    if parsed.json:
        print(msgspec.json.encode(readiness).decode())
    else:
        show(readiness, unbroken(Console()))
    return 0 if ready else 1


if __name__ == "__main__":
    sys.exit(main())
