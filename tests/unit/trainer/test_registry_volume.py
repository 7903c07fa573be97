"""A registry that the trainer cannot write: one sentence with folder and remedy, nothing half-written, no training lost."""

import pytest

from services.registry.check import verify_version
from services.registry.errors import RegistryError
from services.registry.pointer import promote, read_pointer
from tests.support.volumes import mode_bits_count, of_another_user, read_only, tree
from tests.unit.trainer.house import FakeWorker, House


@pytest.fixture
def served(house: House) -> House:
    """With ``acme@1`` in service."""
    house.retrain(FakeWorker())
    house.write_rows(30)
    return house


def test_a_read_only_registry_is_found_before_the_training(served: House) -> None:
    before, worker = tree(served.registry.root), FakeWorker()
    with read_only(served.registry.root) as volume:
        volume.mount()
        with pytest.raises(RegistryError, match=r"registry: Read-only file system; mount it writable$"):
            served.retrain(worker)
        with pytest.raises(RegistryError, match="mount it writable"):
            promote(served.registry, "acme", 1)
    assert (worker.told, tree(served.registry.root)) == ([], before)
    assert served.retrain(FakeWorker())[0].version == "acme@2"


@pytest.mark.parametrize("place", ["", "acme", "acme/reports"])
def test_a_registry_of_another_user_is_found_before_the_training(served: House, place: str) -> None:
    folder, worker = served.registry.root / place, FakeWorker()
    folder.mkdir(exist_ok=True)
    before = tree(served.registry.root)
    with mode_bits_count(), of_another_user(folder), pytest.raises(RegistryError) as refused:
        served.retrain(worker)
    assert str(refused.value).startswith(f"{folder}: Permission denied; give the registry to user ")
    assert (worker.told, tree(served.registry.root)) == ([], before)
    assert served.retrain(FakeWorker())[0].version == "acme@2"


def test_a_registry_that_is_lost_while_training_costs_no_training(served: House) -> None:
    """Nothing of the version is there, the one before is in service, and the next retrain publishes the run that was trained."""
    before = tree(served.registry.root)
    with read_only(served.registry.root) as volume:
        trained = FakeWorker(before=volume.mount)
        with pytest.raises(RegistryError, match=r"registry/acme: Read-only file system; mount it writable"):
            served.retrain(trained)
        assert tree(served.registry.root) == before
    assert (pointer := read_pointer(served.registry, "acme")) is not None
    assert pointer.version == 1
    verify_version(served.registry, "acme", 1)
    again = FakeWorker()
    outcome, said = served.retrain(again)
    assert "continuing run" in said
    assert again.checkpoints_at_start[-1] == "checkpoint-4"
    assert outcome.version == "acme@2"
