"""Check the rows, look at them, train on them: ``python -m services.trainer``."""

import argparse
import logging
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
from services.dataset.faults import DataRefused
from services.registry.errors import RegistryBusy, RegistryError
from services.registry.layout import Registry
from services.trainer.gate.settings import GateSettings
from services.trainer.settings import TrainingSettings
from services.trainer.training.job import TrainingFailed
from services.trainer.worker import Stop

EXIT_FAILED, EXIT_USAGE, EXIT_BAD_DATA, EXIT_BUSY, EXIT_INTERRUPTED, EXIT_REFUSED, EXIT_NOT_JUDGED = range(1, 8)
_EXITS = """exit codes: 0 done, 1 failed, 2 wrong call or setting, 3 the rows were refused, 4 another retrain is under way,
5 interrupted: the run was saved and the next retrain continues it, 6 published, but the gate refused it, 7 published, but
not judged: no server answered"""
_GATE_TABLES = frozenset(GateSettings.__struct_fields__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; see ``--help`` for the exit codes."""
    options = _parser().parse_args(arguments)
    configure_logs(as_json=None)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it would write a line for every question of the gate
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
            "train on the rows as they are now, publish the adapter, judge it on the running server, and serve it if it is better",
        ),
        ("judge", _judge, "judge a published version on the running server and write its report; nothing is promoted"),
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
            help="override one setting of config/training.toml or config/gate.toml, such as --set recipe.epochs=2; may be repeated",
        )
        if name == "preview":
            verb.add_argument("--rows", type=int, default=3, help="how many rows to show (default 3)")
            verb.add_argument("--row", metavar="FILE:LINE", help="show this row only")
        if name == "judge":
            verb.add_argument("--version", type=int, required=True, help="its number, as `make versions` lists it")
            verb.add_argument("--adapter", help="the adapter's name; that of config/training.toml where not given")
    return parser


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


def _retrain(options: argparse.Namespace) -> int:
    from services.trainer.gate.judge import ServerJudge  # noqa: PLC0415 - as above
    from services.trainer.retrain import retrain  # noqa: PLC0415
    from services.trainer.worker import ProcessWorker  # noqa: PLC0415

    gate_settings = load("gate", GateSettings, _of_gate(options.set, wanted=True))
    settings, base_settings, paths = _settings(options)
    stop, console = _stop(), Console(stderr=True)
    outcome = retrain(
        settings,
        base_settings,
        paths,
        worker=ProcessWorker(stop, paths.cache / "trainer"),
        judge=ServerJudge(gate_settings, paths.server_socket, console, lambda: stop.requested),
        console=console,
    )
    if options.json:
        print(msgspec.json.encode(outcome).decode())
    elif outcome.version is None:
        console.print(f"interrupted and saved at step {outcome.steps}; the next retrain continues run {outcome.run}")
    else:
        parts = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in outcome.seconds.items())
        holdout = f", holdout loss {outcome.holdout_loss:.4f}" if outcome.holdout_loss is not None else ""
        console.print(
            f"{outcome.version} is published: {outcome.steps} steps, loss {outcome.train_loss:.4f}{holdout} ({parts})"
        )
        _say_verdict(outcome.version, outcome.reasons, console, passed=outcome.passed, promoted=True)
    if outcome.version is None:
        return EXIT_INTERRUPTED
    return {True: 0, False: EXIT_REFUSED, None: EXIT_NOT_JUDGED}[outcome.passed]


def _judge(options: argparse.Namespace) -> int:
    from services.dataset.tokenizer import load_tokenizer  # noqa: PLC0415 - as above
    from services.trainer.gate.again import judge_again  # noqa: PLC0415
    from services.trainer.gate.client import JudgingFailed  # noqa: PLC0415
    from services.trainer.gate.judge import ServerJudge  # noqa: PLC0415

    gate_settings = load("gate", GateSettings, _of_gate(options.set, wanted=True))
    settings, base_settings, paths = _settings(options)
    base_folder = paths.models / read_base_model(paths.models, base_settings.base_model).name
    stop, console = _stop(), Console(stderr=True)
    judge = ServerJudge(gate_settings, paths.server_socket, console, lambda: stop.requested)
    adapter = options.adapter or settings.adapter.name
    try:
        report = judge_again(
            Registry(paths.registry),
            adapter,
            options.version,
            paths.datasets,
            base_folder,
            load_tokenizer(base_folder),
            settings,
            judge,
        )
    except JudgingFailed as error:
        print(f"trainer: {error}", file=sys.stderr)
        return EXIT_NOT_JUDGED
    if options.json:
        print(msgspec.json.encode(report).decode())
    else:
        _say_verdict(report.model, report.reasons, console, passed=report.passed, promoted=False)
    return 0 if report.passed else EXIT_REFUSED


def _say_verdict(version: str, reasons: list[str], console: Console, *, passed: bool | None, promoted: bool) -> None:
    number = version.rpartition("@")[2]
    if passed and promoted:
        console.print(
            f"The gate passed it: {version} is the version to serve; a running server follows within seconds (`make status`)"
        )
    elif passed:
        console.print(f"The gate passed {version}; `make promote VERSION={number}` makes it the version to serve")
    else:
        verdict = "The gate refused it" if passed is False else "It was not judged"
        console.print(f"{verdict}; {version} stays a candidate:")
        for reason in reasons:
            console.print(f"  - {reason}", markup=False, highlight=False)
        remedy = (
            f"`make report VERSION={number}` shows all of it"
            if passed is False
            else f"`make judge VERSION={number}` judges it"
        )
        console.print(f"{remedy}; `make promote VERSION={number} FORCE=1` serves it all the same")


def _stop() -> Stop:
    stop = Stop()
    signal.signal(signal.SIGTERM, stop.handle)
    signal.signal(signal.SIGINT, stop.handle)
    return stop


def _of_gate(overrides: list[str], *, wanted: bool) -> list[str]:
    """The overrides of config/gate.toml, or those of config/training.toml, told apart by their table."""
    return [item for item in overrides if (item.partition(".")[0].strip() in _GATE_TABLES) is wanted]


def _settings(options: argparse.Namespace) -> tuple[TrainingSettings, BaseSettings, DataPaths]:
    training = load("training", TrainingSettings, _of_gate(options.set, wanted=False))
    return training, load("base", BaseSettings), DataPaths.from_environment()


if __name__ == "__main__":
    sys.exit(main())
