"""Check the rows, look at them, train on them: ``python -m services.trainer``."""

import argparse
import signal
import sys
from collections.abc import Sequence
from typing import Any

import msgspec
from rich.console import Console

from services.base_model.errors import BaseModelError
from services.base_model.identity import BaseSettings, read_base_model
from services.common.logs import configure_logs
from services.common.paths import DataPaths
from services.common.settings import SettingsError, load
from services.registry.errors import RegistryBusy, RegistryError
from services.trainer.data.faults import DataRefused
from services.trainer.settings import TrainingSettings
from services.trainer.training.job import TrainingFailed

EXIT_FAILED, EXIT_USAGE, EXIT_BAD_DATA, EXIT_BUSY, EXIT_INTERRUPTED = 1, 2, 3, 4, 5
_EXITS = """exit codes: 0 done, 1 failed, 2 wrong call or setting, 3 the rows were refused, 4 another retrain is under way,
5 interrupted: the run was saved and the next retrain continues it"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; see ``--help`` for the exit codes."""
    options = _parser().parse_args(arguments)
    configure_logs(as_json=None)
    try:
        code: int = options.run(options)
    except SettingsError as error:
        return _fail(str(error), EXIT_USAGE, options)
    except DataRefused as error:
        return _fail(str(error), EXIT_BAD_DATA, options, faults=error.faults, files=error.files)
    except RegistryBusy as error:
        return _fail(str(error), EXIT_BUSY, options)
    except (BaseModelError, RegistryError, TrainingFailed) as error:
        return _fail(str(error), EXIT_FAILED, options)
    except OSError as error:
        what = f"{error.filename or 'a file'}: {error.strerror}" if error.strerror else str(error)
        return _fail(f"{what}; check the data volume, its owner and its free space", EXIT_FAILED, options)
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
        epilog=_EXITS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    for name, run, summary in (
        ("check-data", _check_data, "check every row of data/datasets and say what training would see"),
        ("preview", _preview, "show how rows are rendered and which of their tokens are trained"),
        (
            "retrain",
            _retrain,
            "train on the rows as they are now, publish the adapter and make it the version to serve",
        ),
    ):
        verb = verbs.add_parser(
            name,
            help=summary,
            description=summary,
            epilog=_EXITS,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        verb.set_defaults(run=run)
        verb.add_argument("--json", action="store_true", help="print JSON on standard output, for machines")
        verb.add_argument(
            "--set",
            action="append",
            default=[],
            metavar="TABLE.KEY=VALUE",
            help="override one setting of config/training.toml, such as --set recipe.epochs=2; may be repeated",
        )
        if name == "preview":
            verb.add_argument("--rows", type=int, default=3, help="how many rows to show (default 3)")
            verb.add_argument("--row", metavar="FILE:LINE", help="show this row only")
    return parser


def _check_data(options: argparse.Namespace) -> int:
    from services.trainer.data.prepare import check_data  # noqa: PLC0415 - transformers takes seconds to import
    from services.trainer.data.report import print_read, print_report  # noqa: PLC0415

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
    from services.trainer.data.preview import preview, print_preview  # noqa: PLC0415 - as above

    settings, base_settings, paths = _settings(options)
    base = read_base_model(paths.models, base_settings.base_model)
    previewed = preview(paths.datasets, paths.models / base.name, settings.data, rows=options.rows, row=options.row)
    if options.json:
        print(msgspec.json.encode(previewed).decode())
    else:
        print_preview(previewed, Console())
    return 0


def _retrain(options: argparse.Namespace) -> int:
    from services.trainer.retrain import Outcome, retrain  # noqa: PLC0415 - datasets takes a second to import
    from services.trainer.worker import ProcessWorker, Stop  # noqa: PLC0415

    settings, base_settings, paths = _settings(options)
    stop = Stop()
    signal.signal(signal.SIGTERM, stop.handle)
    signal.signal(signal.SIGINT, stop.handle)
    console = Console(stderr=True)
    worker = ProcessWorker(stop, paths.cache / "trainer")
    outcome: Outcome = retrain(settings, base_settings, paths, worker=worker, console=console)
    if options.json:
        print(msgspec.json.encode(outcome).decode())
    elif outcome.version is None:
        console.print(f"interrupted and saved at step {outcome.steps}; the next retrain continues run {outcome.run}")
    else:
        parts = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in outcome.seconds.items())
        holdout = f", holdout loss {outcome.holdout_loss:.4f}" if outcome.holdout_loss is not None else ""
        console.print(
            f"{outcome.version} is published: {outcome.steps} steps, loss {outcome.train_loss:.4f}{holdout} ({parts}). It is the "
            "version to serve; a running server follows within seconds (`make status`)"
        )
    return 0 if outcome.version is not None else EXIT_INTERRUPTED


def _settings(options: argparse.Namespace) -> tuple[TrainingSettings, BaseSettings, DataPaths]:
    return load("training", TrainingSettings, options.set), load("base", BaseSettings), DataPaths.from_environment()


if __name__ == "__main__":
    sys.exit(main())
