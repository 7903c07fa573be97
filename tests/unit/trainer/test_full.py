"""A card that is full, and disks that are: a real worker says so in one sentence, nothing is published, the run goes on later."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from services.base_model.identity import BaseModelSettings, BaseSettings
from services.base_model.install import install
from services.registry.check import verify_version
from services.registry.errors import RegistryError
from services.registry.pointer import read_pointer
from services.trainer.run import RunRecord
from services.trainer.say import reason_of
from services.trainer.training.job import Event, Finished, Interrupted, MachineFailed, TrainingFailed, TrainingJob
from services.trainer.worker import ProcessWorker, Stop
from tests.support.volumes import Small, small, tree
from tests.unit.trainer.house import FakeWorker, House
from tests.unit.trainer.prober import FakeProber
from tests.unit.trainer.tiny import WIDTH, TinySource

# Of a model that learns in moments, with a checkpoint after each update.
FEW = ("max_length=128", "max_steps=2", "rows_per_step=2", "warmup_steps=0")
TINY = (*(f"recipe.{setting}" for setting in FEW), "checkpoints.every_steps=1", "lora.rank=2")

# The real worker on a card that does not hold what is done there.
FULL = """
import torch
from services.trainer.training.__main__ import main
from {module} import {owner}
def full(*_, **__): raise torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB.')
{owner}.{step} = full
raise SystemExit(main())
"""


@pytest.fixture
def house(tmp_path: Path) -> House:
    """With ``acme@1`` in service, and rows that have changed since."""
    base = BaseModelSettings(name="tiny-base", package="tiny")
    install(tmp_path / "models", base, TinySource())
    house = House(tmp_path, BaseSettings(base_model=base))
    house.retrain(FakeWorker(width=WIDTH), TINY)
    house.write_rows(30)
    return house


def record(house: House) -> RunRecord:
    """Of the newest run."""
    return msgspec.json.decode((house.paths.runs / house.runs[-1] / "run.json").read_bytes(), type=RunRecord)


def serves(house: House, version: int) -> bool:
    """Whether this version is whole, in service and the newest that there is."""
    verify_version(house.registry, "acme", version)
    pointer = read_pointer(house.registry, "acme")
    return pointer is not None and (pointer.version, house.registry.versions("acme")[-1]) == (version, version)


@pytest.mark.parametrize(
    ("module", "owner", "step"),
    [
        ("transformers", "AutoModelForCausalLM", "from_pretrained"),
        ("services.trainer.training.packed.step", "PassRunner", "backward"),
    ],
    ids=["base model", "pass"],
)
def test_a_card_that_is_full_interrupts_the_run_with_one_sentence(
    house: House, tmp_path: Path, module: str, owner: str, step: str
) -> None:
    """Whatever did not fit; the version before stays in service, and the run is continued where there is room again."""
    program = ("-c", FULL.format(module=module, owner=owner, step=step))
    with pytest.raises(MachineFailed, match=r"^the card's memory is full; .*recipe.rows_per_pass") as failed:
        house.retrain(ProcessWorker(Stop(), tmp_path / "cache", program=program), TINY)
    assert "\n" not in str(failed.value)
    assert (record(house).state, record(house).note) == ("interrupted", str(failed.value))
    assert not (house.paths.runs / record(house).run_id / "adapter").exists()
    assert serves(house, 1)
    assert house.retrain(FakeWorker(width=WIDTH), TINY)[0].run == record(house).run_id
    assert serves(house, 2)


class Crowded(ProcessWorker):
    """A real worker that finds its volume full but for so many bytes."""

    def __init__(self, volume: Small, cache: Path, *, but: int) -> None:
        super().__init__(Stop(), cache)
        self._volume, self._but = volume, but

    def __call__(self, job: TrainingJob, folder: Path, on_event: Callable[[Event], None]) -> Finished | Interrupted:
        """See ``Worker``."""
        self._volume.fill(but=self._but)
        return super().__call__(job, folder, on_event)


def test_a_disk_that_is_full_at_a_checkpoint_interrupts_the_run_with_one_sentence(house: House, tmp_path: Path) -> None:
    """A real file system of its own: nothing can be written about the end either. What is half-written is passed over later."""
    with small(house.paths.runs) as volume:
        with pytest.raises(MachineFailed, match=r"; check the data volume and its free space$") as failed:
            house.retrain(Crowded(volume, tmp_path / "cache", but=1 << 16), TINY)
        assert "\n" not in str(failed.value)
        assert serves(house, 1)
        volume.clear()
        ended, said = house.retrain(ProcessWorker(Stop(), tmp_path / "cache"), TINY)
        assert f"continuing run {ended.run}" in said
    assert serves(house, 2)


def test_a_disk_that_is_full_for_the_trainer_itself_ends_the_retrain_with_one_sentence(house: House) -> None:
    """Which has events to write, while its worker has nothing."""
    with small(house.paths.runs) as volume:
        with pytest.raises(OSError, match="No space left on device") as failed:
            house.retrain(FakeWorker(width=WIDTH, before=lambda: volume.fill(but=0)), TINY)
        assert reason_of(failed.value).endswith(
            "No space left on device; check the data volume, its owner and its free space"
        )
        assert serves(house, 1)
        volume.clear()
        assert "continuing run" in house.retrain(FakeWorker(width=WIDTH), TINY)[1]
    assert serves(house, 2)


@pytest.mark.parametrize("failure", [MachineFailed("the worker was killed"), TrainingFailed("the loss became nan")])
def test_a_failure_is_told_though_nothing_can_be_written_about_it(house: House, failure: TrainingFailed) -> None:
    """No run record, log or curve."""
    with small(house.paths.runs) as volume:
        with pytest.raises(type(failure), match=str(failure)):
            house.retrain(FakeWorker(width=WIDTH, before=lambda: volume.fill(but=0), fail=failure), TINY)
        volume.clear()
        house.retrain(FakeWorker(width=WIDTH), TINY)
    assert serves(house, 2)


@pytest.mark.parametrize("at", ["adapter", "manifest"])
def test_a_registry_that_is_full_publishes_nothing_and_the_version_before_serves_on(house: House, at: str) -> None:
    """A real file system of its own, full before the adapter's files are there or after; the training is not lost."""
    with small(house.registry.root) as volume:
        before = tree(house.registry.root)

        def fill() -> None:
            volume.fill(but=0)

        worker, prober = (
            (FakeWorker(width=WIDTH, before=fill), None)
            if at == "adapter"
            else (FakeWorker(width=WIDTH), FakeProber(fill))
        )
        with pytest.raises(RegistryError, match=r"acme: cannot publish: No space left on device; .* its free space$"):
            house.retrain(worker, TINY, prober=prober)
        volume.clear()
        assert tree(house.registry.root) == before
        assert serves(house, 1)
        trained = FakeWorker(width=WIDTH)
        assert "continuing run" in house.retrain(trained, TINY)[1]
        assert trained.checkpoints_at_start[-1] == "checkpoint-4"
        assert serves(house, 2)
