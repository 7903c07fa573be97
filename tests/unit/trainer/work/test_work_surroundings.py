"""Whatever a spare worker may have taken in: when it changes, that is seen."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from services.common.paths import DataPaths
from services.trainer.work.surroundings import surroundings


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with code, settings and a base model."""
    for file in ("code/part/module.py", "config/training.toml", "config/cpu/gate.toml", "models/base/whetstone.json"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("x")
    (tmp_path / "site-packages").mkdir()
    monkeypatch.setenv("WHETSTONE_CONFIG", str(tmp_path / "config"))
    monkeypatch.syspath_prepend(str(tmp_path / "site-packages"))
    return tmp_path


def _touch(file: str) -> Callable[[Path], None]:
    return lambda root: os.utime(root / file, ns=(1, 1))


@pytest.mark.parametrize(
    "change",
    [
        _touch("code/part/module.py"),
        lambda root: (root / "code" / "another.py").write_text("x"),
        lambda root: (root / "code" / "part" / "module.py").unlink(),
        lambda root: (root / "config" / "training.toml").write_text("xy"),
        _touch("config/cpu/gate.toml"),
        _touch("models/base/whetstone.json"),
        _touch("site-packages"),
    ],
    ids=["code", "new code", "deleted code", "setting", "profile", "base model", "packages"],
)
def test_a_change_is_seen(root: Path, change: Callable[[Path], object]) -> None:
    paths, code = DataPaths(root), root / "code"
    before = surroundings(paths, code)
    assert surroundings(paths, code) == before
    change(root)
    assert surroundings(paths, code) != before


def test_other_cards_are_seen(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = surroundings(DataPaths(root), root / "code")
    monkeypatch.setattr("services.trainer.work.surroundings.visible_cards", lambda: ["7"])
    assert surroundings(DataPaths(root), root / "code") != before
