"""What ended a run decides whether the next retrain continues it, from the newest checkpoint that is whole."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from services.base_model.install import install
from services.trainer.training.job import MachineFailed, TrainingFailed
from tests.unit.trainer.house import FakeWorker, House, TinyBase
from tests.unit.trainer.prober import FakeProber


def test_an_interrupted_run_is_continued_from_its_checkpoint(house: House) -> None:
    outcome, _ = house.retrain(FakeWorker(stop_at=2))
    assert outcome.version is None
    assert house.registry.versions("acme") == []
    second = FakeWorker()
    finished, said = house.retrain(second)
    assert (finished.run, finished.version) == (outcome.run, "acme@1")
    assert second.jobs[0].resume_from is not None
    assert second.jobs[0].resume_from.name == "checkpoint-2"
    assert f"continuing run {outcome.run}" in said
    events = map(json.loads, (house.paths.runs / finished.run / "events.jsonl").read_text().splitlines())
    steps = [event["step"] for event in events if event["type"] == "step"]
    assert steps == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "state").write_text("9"),
        lambda folder: (folder / "state").unlink(),
        lambda folder: (folder / "complete.json").unlink(),
        lambda folder: (folder / "complete.json").write_text("{"),
        lambda folder: (folder / "complete.json").write_bytes(b'{"\xff": {}}'),
    ],
    ids=["changed", "missing", "never finished", "seal cut", "seal with a wrong byte"],
)
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(house: House, damage: Callable[[Path], object]) -> None:
    outcome, _ = house.retrain(FakeWorker(stop_at=3))
    damage(house.paths.runs / outcome.run / "checkpoints" / "checkpoint-3")
    second = FakeWorker()
    finished, said = house.retrain(second)
    assert (finished.run, finished.version) == (outcome.run, "acme@1")
    assert second.jobs[0].resume_from == house.paths.runs / outcome.run / "checkpoints" / "checkpoint-2"
    assert "continuing from checkpoint-2" in said
    assert second.checkpoints_at_start == ["checkpoint-1", "checkpoint-2"], "a damaged one would count towards keep"


def test_a_run_goes_on_whatever_number_of_cards_it_began_with(house: House) -> None:
    outcome, _ = house.retrain(FakeWorker(stop_at=2))
    second = FakeWorker()
    finished, _ = house.retrain(second, overrides=["worker.cards=3"])
    assert finished.run == outcome.run
    assert second.jobs[0].cards == 3


def test_where_every_checkpoint_is_damaged_the_run_begins_again(house: House) -> None:
    outcome, _ = house.retrain(FakeWorker(stop_at=2))
    for state in (house.paths.runs / outcome.run / "checkpoints").glob("*/state"):
        state.write_text("damaged")
    second = FakeWorker()
    house.retrain(second)
    assert (second.jobs[0].resume_from, second.checkpoints_at_start) == (None, [])


@pytest.mark.parametrize(("change", "named"), [("recipe", "recipe changed"), ("data", "data changed")])
def test_a_changed_recipe_or_changed_rows_begin_a_fresh_run_and_say_so(house: House, change: str, named: str) -> None:
    first, _ = house.retrain(FakeWorker(stop_at=2))
    if change == "data":
        house.write_rows(21)
    second = FakeWorker()
    outcome, said = house.retrain(second, ["recipe.seed=7"] if change == "recipe" else [])
    assert outcome.run != first.run
    assert second.jobs[0].resume_from is None
    assert f"from the start: {named} since run {first.run} was interrupted" in said


@pytest.mark.parametrize("part", ["template", "tokenizer", "weights", "revision"])
def test_a_changed_base_model_begins_a_fresh_run_and_says_so(house: House, part: str) -> None:
    first, _ = house.retrain(FakeWorker(stop_at=2))
    shutil.rmtree(house.paths.models / "tiny-base")
    install(house.paths.models, house.base.base_model, TinyBase(part))
    second = FakeWorker()
    outcome, said = house.retrain(second)
    assert outcome.run != first.run
    assert second.jobs[0].resume_from is None
    assert f"from the start: base changed since run {first.run} was interrupted" in said


def test_a_base_model_that_is_installed_again_is_the_same(house: House) -> None:
    first, _ = house.retrain(FakeWorker(stop_at=2))
    shutil.rmtree(house.paths.models / "tiny-base")
    install(house.paths.models, house.base.base_model, TinyBase())
    assert house.retrain(FakeWorker())[0].run == first.run


def test_a_run_that_the_machine_ended_is_continued_from_its_checkpoint(house: House) -> None:
    with pytest.raises(MachineFailed, match="the disk is full"):
        house.retrain(FakeWorker(stop_at=3, fail=MachineFailed("the disk is full")))
    second = FakeWorker()
    outcome, said = house.retrain(second)
    assert house.runs == [outcome.run]
    assert second.jobs[0].resume_from == house.paths.runs / outcome.run / "checkpoints" / "checkpoint-3"
    assert f"continuing run {outcome.run}" in said


def test_a_run_that_the_recipe_ended_is_not_continued(house: House) -> None:
    with pytest.raises(TrainingFailed, match="the loss became nan"):
        house.retrain(FakeWorker(stop_at=3, fail=TrainingFailed("the loss became nan")))
    second = FakeWorker()
    house.retrain(second)
    assert len(house.runs) == 2
    assert second.jobs[0].resume_from is None


def test_a_finished_training_whose_publishing_was_killed_is_continued(house: House) -> None:
    def die() -> None:
        raise MachineFailed("killed")

    with pytest.raises(MachineFailed):
        house.retrain(FakeWorker(), prober=FakeProber(die))
    assert house.registry.versions("acme") == []
    second = FakeWorker()
    outcome, _ = house.retrain(second)
    assert outcome.version == "acme@1"
    assert second.jobs[0].resume_from is not None
    assert second.jobs[0].resume_from.name == "checkpoint-4"
