"""Check the rows, look at them, train on them: ``python -m services.trainer``."""

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from rich.console import Console

from services.base_model.errors import BaseModelError
from services.base_model.identity import BaseSettings, read_base_model
from services.common.logs import configure_logs
from services.common.paths import DataPaths
from services.common.settings import SettingsError, load
from services.dataset.faults import DataRefused
from services.jobs.errors import JobsError
from services.registry.errors import RegistryBusy, RegistryError
from services.registry.layout import Registry
from services.trainer import exits
from services.trainer.say import reason_of, say_verdict
from services.trainer.settings import TrainingSettings
from services.trainer.work import commands
from services.trainer.work.commands import stop_on_signals
from services.trainer.work.settings import gate_settings, training_settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; see ``--help`` for the exit codes."""
    options = _parser().parse_args(arguments)
    configure_logs(as_json=None)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it would write a line for every question of the gate
    try:
        code: int = options.run(options)
    except SettingsError as error:
        return _fail(str(error), exits.USAGE, options)
    except DataRefused as error:
        return _fail(str(error), exits.BAD_DATA, options, faults=error.faults, files=error.files)
    except RegistryBusy as error:
        return _fail(str(error), exits.BUSY, options)
    except (BaseModelError, JobsError, RegistryError) as error:
        return _fail(str(error), exits.FAILED, options)
    except OSError as error:
        return _fail(reason_of(error), exits.FAILED, options)
    return code


def _fail(message: str, code: int, options: argparse.Namespace, **details: Any) -> int:
    if options.json:
        print(msgspec.json.encode({"error": message.partition("\n")[0], **details}).decode())
    print(f"trainer: {message}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m services.trainer",
        description=__doc__,
        epilog=exits.EXPLAINED,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    for name, run, summary in _VERBS:
        verb = verbs.add_parser(
            name,
            help=summary,
            description=summary,
            epilog=exits.EXPLAINED,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        verb.set_defaults(run=run)
        verb.add_argument("--json", action="store_true", help="print JSON on standard output, for machines")
        if name in _WITH_SETTINGS:
            verb.add_argument(
                "--set",
                action="append",
                default=[],
                metavar="TABLE.KEY=VALUE",
                help="override one setting of config/training.toml or config/gate.toml, such as --set recipe.epochs=2; may be repeated",
            )
        if name == "preview":
            verb.add_argument("--rows", type=int, default=3, help="how many rows to show (default 3)")
            verb.add_argument("--row", metavar="FILE:LINE", help="show this row only")
        if name == "judge":
            verb.add_argument("--version", type=int, required=True, help="its number, as `make versions` lists it")
            verb.add_argument("--adapter", help="the adapter's name; that of config/training.toml where not given")
        if name == "delete":
            verb.add_argument("--version", type=_version, required=True, help="its number, or all of them: all")
            verb.add_argument("--adapter", help="the adapter's name; that of config/training.toml where not given")
        if name == "cancel":
            verb.add_argument("job", help="its id, as `make jobs` lists it")
    return parser


def _version(text: str) -> int | None:
    return None if text == "all" else int(text)


def _check_data(options: argparse.Namespace) -> int:
    from services.dataset.prepare import check_data  # noqa: PLC0415 - transformers takes seconds to import
    from services.dataset.report import print_read, print_report  # noqa: PLC0415

    settings, base_settings, paths = _settings(options)
    base = read_base_model(paths.models, base_settings.base_model)
    try:
        report = check_data(paths.datasets, paths.models / base.name, settings.data, settings.recipe.max_length)
    except DataRefused as error:
        if error.files and not options.json:
            print_read(error.files, Console())
        raise
    if options.json:
        print(msgspec.json.encode(report).decode())
    else:
        print_report(report, Console())
    return 0


def _preview(options: argparse.Namespace) -> int:
    from services.dataset.preview import preview, print_preview  # noqa: PLC0415 - as above

    settings, base_settings, paths = _settings(options)
    base = read_base_model(paths.models, base_settings.base_model)
    previewed = preview(paths.datasets, paths.models / base.name, settings.data, rows=options.rows, row=options.row)
    if options.json:
        print(msgspec.json.encode(previewed).decode())
    else:
        print_preview(previewed, Console())
    return 0


def _judge(options: argparse.Namespace) -> int:
    from services.trainer.gate.again import judge_again  # noqa: PLC0415 - as above
    from services.trainer.gate.client import JudgingFailed  # noqa: PLC0415
    from services.trainer.gate.judge import ServerJudge  # noqa: PLC0415

    gate = gate_settings(options.set)
    settings, base_settings, paths = _settings(options)
    base_folder = paths.models / read_base_model(paths.models, base_settings.base_model).name
    stop, console = stop_on_signals(), Console(stderr=True)
    judge = ServerJudge(gate, paths.server_socket, console, lambda: stop.requested)
    adapter = options.adapter or settings.adapter.name
    try:
        report = judge_again(
            Registry(paths.registry),
            adapter,
            options.version,
            paths.datasets,
            base_folder,
            settings,
            judge,
        )
    except JudgingFailed as error:
        print(f"trainer: {error}", file=sys.stderr)
        return exits.NOT_JUDGED
    if options.json:
        print(msgspec.json.encode(report).decode())
    else:
        say_verdict(report.model, report.reasons, console, passed=report.passed, promoted=False)
    return exits.DONE if report.passed else exits.REFUSED


def _settings(options: argparse.Namespace) -> tuple[TrainingSettings, BaseSettings, DataPaths]:
    return training_settings(options.set), load("base", BaseSettings), DataPaths.from_environment()


_WITH_SETTINGS = frozenset({"check-data", "preview", "retrain", "judge"})
_VERBS: tuple[tuple[str, Callable[[argparse.Namespace], int], str], ...] = (
    ("check-data", _check_data, "check every row of data/datasets and say what training would see"),
    ("preview", _preview, "show how rows are rendered and which of their tokens are trained"),
    (
        "retrain",
        commands.retrain,
        "train on the rows as they are now, publish the adapter, judge it on the running server, and serve it if it is better",
    ),
    ("judge", _judge, "judge a published version on the running server and write its report; nothing is promoted"),
    ("work", commands.work, "work on the queue of fine-tuning jobs, one at a time, until asked to end"),
    ("jobs", commands.jobs, "list the jobs that wait or run, and the last that ended"),
    ("cancel", commands.cancel, "end a job that waits or runs"),
    ("delete", commands.delete, "give up a version that is not in service, or an adapter with all its versions"),
)


if __name__ == "__main__":
    sys.exit(main())
