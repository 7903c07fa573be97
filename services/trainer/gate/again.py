"""Judge a version that was published before, on the rows as they are now."""

import tempfile
from pathlib import Path

import msgspec

from services.dataset.prepare import Prepared, prepare
from services.dataset.sources import take_snapshot
from services.registry.layout import Registry, check_adapter_name
from services.registry.rows import read_rows
from services.trainer.gate.judge import Judge
from services.trainer.gate.report import Report
from services.trainer.settings import TrainingSettings


def judge_again(
    registry: Registry,
    adapter: str,
    version: int,
    datasets: Path,
    base_folder: Path,
    settings: TrainingSettings,
    judge: Judge,
) -> Report:
    """Judge a version on what is held out of the rows now, less every row that the version was trained on.

    A row stays held out as long as its content and ``data.holdout_share`` stay; where the share grew, rows that the version
    has learnt would flatter it.

    Raises:
        DataRefused: the rows are not fit to be read.
        JudgingFailed: no verdict was reached.
        RegistryError: the version is not published, or the registry cannot be read or written.
    """
    folder = registry.require(check_adapter_name(adapter), version)
    trained = {row.sha256 for row in read_rows(folder) if row.use == "train"}
    with tempfile.TemporaryDirectory(prefix="whetstone-judge-") as scratch:
        snapshot = Path(scratch, "snapshot")
        prepared = prepare(
            take_snapshot(datasets, snapshot), snapshot, base_folder, settings.data, settings.recipe.max_length
        )
    return judge(registry, adapter, version, _without(prepared, trained))


def _without(prepared: Prepared, trained: set[str]) -> Prepared:
    kept = [place for place, example in enumerate(prepared.holdout) if example.row_hash not in trained]
    return msgspec.structs.replace(
        prepared,
        holdout=[prepared.holdout[place] for place in kept],
        holdout_rows=[prepared.holdout_rows[place] for place in kept],
    )
