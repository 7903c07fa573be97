"""Parts follow one another without a gap, whoever took their time."""

import time

import pytest

from services.common.parts import Parts, process_seconds


class Clock:
    """Stands where it is put."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_part_that_another_process_divides_keeps_what_is_left_of_it() -> None:
    """The sum is what was waited for, and not a second more."""
    clock = Clock()
    parts = Parts(clock)
    parts.add("before", 2.0)
    parts.begin("engine process")
    clock.now += 10
    parts.divide({"weights": 3.0, "first pass": 4.0})
    clock.now += 1
    assert parts.end() == {"before": 2.0, "weights": 3.0, "first pass": 4.0, "engine process": 4.0}


def test_a_process_knows_how_long_it_has_run() -> None:
    """By the kernel, so that what Python imported first is counted."""
    before = process_seconds()
    time.sleep(0.05)
    assert process_seconds() - before == pytest.approx(0.05, abs=0.04)
    assert before > time.process_time() / 64
