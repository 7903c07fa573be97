"""What a process has ready before it has a job."""

from pathlib import Path

import pytest

from services.common.paths import DataPaths
from services.trainer.probe import ProcessProber
from services.trainer.work.ready import Ready
from services.trainer.worker import ProcessWorker, Stop
from tests.support.processes import lives, until
from tests.unit.trainer.house import CONFIG, House

WAIT = """
import os, pathlib, sys, time
foresees = pathlib.Path(sys.argv[1], 'foreseen.json').exists()
open({diary!r}, 'a').write(f'{{os.getpid()}} {{foresees}}\\n')
time.sleep(600)
"""


class Kept:
    """A process's helpers, which only wait and keep a diary."""

    def __init__(self, folder: Path) -> None:
        self._diary, self.folders = folder / "diary", list[Path]()
        program = ("-c", WAIT.format(diary=str(self._diary)))
        worker = ProcessWorker(Stop(), folder / "cache", program=program, cards=list)
        self.ready = Ready(worker, ProcessProber(folder / "cache", program=program), self)  # type: ignore[arg-type]

    def get_ready(self, base_folder: Path) -> None:
        """See ``Tokenizers``."""
        self.folders.append(base_folder)
        raise ValueError("a tokenizer that nobody can read")

    @property
    def processes(self) -> list[int]:
        """All that began."""
        return [int(line.split()[0]) for line in self._lines]

    @property
    def foresees(self) -> list[bool]:
        """Of each, whether it knows what job is likely."""
        return [line.endswith("True") for line in self._lines]

    @property
    def _lines(self) -> list[str]:
        return self._diary.read_text().splitlines() if self._diary.exists() else []


@pytest.mark.parametrize(("cards", "began"), [(["0"], 2), ([], 1)], ids=["with a card", "without one"])
def test_worker_tokenizer_and_on_a_card_the_prober_get_ready_and_go(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cards: list[str], began: int
) -> None:
    """A tokenizer that cannot be loaded is the job's to tell of."""
    monkeypatch.setenv("WHETSTONE_CONFIG", str(_config(tmp_path, house)))
    kept = Kept(tmp_path)
    kept.ready.get_ready(house.paths, lambda: cards)
    until(lambda: len(kept.processes) == began)
    assert kept.folders == [house.paths.models / house.base.base_model.name]
    kept.ready.dismiss()
    assert not any(map(lives, kept.processes))


@pytest.mark.parametrize("cards", [["0"], []], ids=["with a card", "without one"])
@pytest.mark.parametrize("holds", [True, False])
def test_the_base_model_is_loaded_before_there_is_a_job_where_the_settings_want_it_and_there_is_a_card(
    house: House,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cards: list[str],
    holds: bool,  # noqa: FBT001
) -> None:
    monkeypatch.setenv("WHETSTONE_CONFIG", str(_config(tmp_path, house, holds=holds)))
    kept = Kept(tmp_path)
    kept.ready.get_ready(house.paths, lambda: cards)
    until(lambda: len(kept.processes) == 1 + len(cards))
    kept.ready.dismiss()
    assert any(kept.foresees) == (holds and bool(cards))


def test_without_a_base_model_only_the_worker_gets_ready(
    tmp_path: Path, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WHETSTONE_CONFIG", str(_config(tmp_path, house)))
    kept = Kept(tmp_path)
    kept.ready.get_ready(DataPaths(tmp_path / "nothing"), lambda: ["0"])
    until(lambda: len(kept.processes) == 1)
    kept.ready.dismiss()
    assert kept.folders == []


def _config(folder: Path, house: House, *, holds: bool = False) -> Path:
    config = folder / "config"
    config.mkdir()
    shipped = (CONFIG / "training.toml").read_text()
    (config / "training.toml").write_text(shipped.replace("holds_base = false", f"holds_base = {str(holds).lower()}"))
    model = house.base.base_model
    (config / "base.toml").write_text(f'[base_model]\nname = "{model.name}"\npackage = "{model.package}"\n')
    return config
