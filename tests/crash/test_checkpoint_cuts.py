"""Checkpoints of a training through power cuts: the newest that was sealed is found again, whole."""

import errno
import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from services.trainer.checkpoints import SEAL, newest_whole, seal, step_of
from tests.support.disk import Disk, Killed, full_disk

CUTS = 3  # of each place
KEEP = 2
STEPS = 4


def _train(folder: Path, sealed: list[int]) -> None:
    """As transformers and ``Watch`` do: files, then the oldest goes, then the seal."""
    for step in range(1, STEPS + 1):
        checkpoint = folder / f"checkpoint-{step}"
        (checkpoint / "adapter").mkdir(parents=True)
        for name in ("state", "adapter/weights"):
            (checkpoint / name).write_bytes(f"{name} {step} ".encode() * 100)
        for old in sorted(folder.iterdir(), key=step_of)[:-KEEP]:
            shutil.rmtree(old)
        seal(checkpoint)
        sealed.append(step)


def _steps(root: Path) -> int:
    """So many places there are to be cut at."""
    (root / "checkpoints").mkdir(parents=True)
    disk = Disk(root)
    with disk.writing():
        _train(root / "checkpoints", [])
    return disk.steps


def _cut(root: Path, last_step: int, seed: int) -> None:
    folder = root / "checkpoints"
    folder.mkdir(parents=True)
    disk, sealed, chance = Disk(root), list[int](), random.Random(seed)  # noqa: S311 - repeatable
    try:
        with disk.writing(last_step):
            _train(folder, sealed)
    except Killed:
        pass
    disk.cut_power(chance.randrange)
    found = newest_whole(folder)
    newest = step_of(found) if found is not None else 0
    assert newest >= max(sealed, default=0), "what was sealed is lost"
    if found is not None:
        assert (found / "state").read_bytes() == f"state {newest} ".encode() * 100
        assert (found / "adapter" / "weights").read_bytes() == f"adapter/weights {newest} ".encode() * 100


def test_sealed_checkpoints_survive_power_cuts(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    """Wherever the power goes, and whatever part of the unsynced goes with it."""
    record_property("power cuts", _cut_everywhere(tmp_path))


def _cut_everywhere(tmp_path: Path) -> int:
    places = _steps(tmp_path / "whole")
    assert places > STEPS
    for place in range(places + 1):
        for seed in range(CUTS):
            _cut(tmp_path / f"{place}-{seed}", place, seed)
            shutil.rmtree(tmp_path / f"{place}-{seed}")
    return CUTS * (places + 1)


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    """Whatever finds no room while one is sealed; where there is room again, the next is sealed."""
    _train(tmp_path, [])
    found_none: Counter[str] = Counter()
    while True:
        checkpoint = tmp_path / f"checkpoint-{STEPS + 1}"
        shutil.copytree(tmp_path / f"checkpoint-{STEPS}", checkpoint)
        (checkpoint / SEAL).unlink()
        with full_disk(found_none.total()) as refused:
            try:
                seal(checkpoint)
            except OSError as error:
                assert error.errno == errno.ENOSPC  # noqa: PT017 - not every turn raises
            else:
                break
        found_none[refused[0]] += 1
        found = newest_whole(tmp_path)
        assert found is not None
        assert step_of(found) >= STEPS
        shutil.rmtree(checkpoint, ignore_errors=True)
    assert newest_whole(tmp_path) == checkpoint
    assert set(found_none) == {"open", "write", "fsync", "replace"}


@pytest.mark.parametrize("where", ["sync_file", "sync_folder"])
def test_a_sync_left_out_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """A checkpoint's bytes, or its name."""
    monkeypatch.setattr(f"services.trainer.checkpoints.{where}", lambda _: None)
    with pytest.raises(AssertionError):
        _cut_everywhere(tmp_path)
