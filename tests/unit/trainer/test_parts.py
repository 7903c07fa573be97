"""A retrain's parts follow one another without a gap, so that together they are its wall time."""

from services.trainer.outcome import Outcome
from services.trainer.parts import RetrainParts
from services.trainer.training.job import Checkpoint, Event, Finished, Loading, Step
from tests.unit.trainer.house import FakeWorker, House


class Clock:
    """Stands where it is put."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def step(number: int) -> Step:
    return Step(step=number, of=3, loss=1.0, learning_rate=1e-4, grad_norm=1.0, tokens=1, seconds=1.0)


FINISHED = Finished(steps=3, train_loss=1.0, holdout_loss=None, update_norm=1.0, tokens=3, seconds=3.0, backend="x")


def test_each_event_of_the_training_ends_one_part_and_begins_the_next() -> None:
    clock = Clock()
    parts = RetrainParts(clock)
    parts.begin("rows")
    events: list[Event] = [
        Loading(what="base model", seconds=0.0),
        Loading(what="first step", seconds=0.0),
        step(1),
        step(2),
        Checkpoint(step=2, folder="checkpoint-2"),
        step(3),
        Loading(what="holdout", seconds=0.0),
        FINISHED,
    ]
    for seconds, event in enumerate(events, start=1):
        clock.now += seconds
        parts.take(event)
    clock.now += 9
    assert parts.end() == {
        "rows": 1.0,
        "base model": 2.0,
        "first step": 3.0,
        "updates": 4.0 + 5.0 + 6.0 + 7.0,
        "holdout": 8.0,
        "the worker's end": 9.0,
    }


def test_a_part_that_comes_twice_is_counted_together() -> None:
    clock = Clock()
    parts = RetrainParts(clock)
    for name, seconds in (("publishing", 1.0), ("probe", 2.0), ("publishing", 4.0)):
        parts.begin(name)
        clock.now += seconds
    assert parts.end() == {"publishing": 5.0, "probe": 2.0}


def test_no_time_is_counted_between_an_end_and_the_next_beginning() -> None:
    clock = Clock()
    parts = RetrainParts(clock)
    parts.begin("rows")
    parts.end()
    clock.now += 5
    parts.begin("judging")
    assert parts.end() == {"rows": 0.0, "judging": 0.0}


def test_a_retrain_says_how_long_each_of_its_parts_took(house: House) -> None:
    outcome: Outcome = house.retrain(FakeWorker())[0]
    assert list(outcome.seconds) == [
        "rows",
        "handing over",
        "the worker's start",
        "updates",
        "the worker's end",
        "publishing",
        "probe",
        "judging",
    ]
