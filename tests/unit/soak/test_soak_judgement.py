"""What a soak must not look like."""

from collections.abc import Callable

import msgspec
import pytest

from tests.soak.judgement import Sample, Soak, Swap, judge

MIB = 2**20


def soak(
    *, engine: Callable[[int], int] = lambda _: 1500 * MIB, files: Callable[[int], int] = lambda second: 40 + second % 3
) -> Soak:
    """Two retrains, the first served after 20 s, and a look each second: files come and go with requests."""
    samples = [
        Sample(second, {"server": 500 * MIB, "engine": engine(second)}, {"server": files(second), "engine": 30})
        for second in range(100)
    ]
    swaps = [Swap("acme@1", 0, 18, 20, 100), Swap("acme@2", 50, 68, 70, 50)]
    return Soak(seconds=100, wanted=2, samples=samples, swaps=swaps, answers={"plain": 90, "streamed": 60})


def faults(seen: Soak) -> str:
    return "\n".join(judge(seen).faults)


def test_a_steady_server_passes() -> None:
    """Also one that takes its memory before the first swap, and shakes by less than the bound."""
    verdict = judge(soak())
    assert verdict.faults == []
    assert verdict.memory["all"].first == 2000 * MIB
    assert verdict.files["server"].first == 40
    assert faults(soak(engine=lambda second: (second * 75 if second < 20 else 1500 + second % 20) * MIB)) == ""


def test_a_leak_is_a_fault() -> None:
    """A MiB a second is 60 MiB, or 3 %, between the middles of the windows; two are more than the 5 % allowed."""
    assert faults(soak(engine=lambda second: (1500 + second) * MIB)) == ""
    assert faults(soak(engine=lambda second: (1500 + 2 * second) * MIB)) == "memory is not flat: +5.8%"


def test_memory_that_a_swap_leaves_behind_is_a_fault() -> None:
    assert faults(soak(engine=lambda second: (1500 + (second > 70) * 120) * MIB)) == "memory is not flat: +6.0%"


def test_one_more_file_is_a_fault() -> None:
    """One at the least: what a request opens in passing is none."""
    assert faults(soak(files=lambda second: 40 + second % 3 + (second > 70))) == "server has +1 file descriptors"
    assert faults(soak(files=lambda second: 40 + (second == 90) * 50)) == ""


def test_one_error_is_a_fault() -> None:
    seen = soak()
    assert faults(msgspec.structs.replace(seen, failures=["plain: it broke"])) == "failed: plain: it broke"
    assert faults(msgspec.structs.replace(seen, log_errors=["it broke"])) == "logged: it broke"


@pytest.mark.parametrize(
    ("swaps", "said"),
    [
        ([Swap("acme@1", 0, 18, 20, 100)], "1 of 2 retrains published"),
        ([Swap("acme@1", 0, 18, 20, 100), Swap("acme@2", 50, 68)], "acme@2 was never served"),
        ([Swap("acme@1", 0, 18, 20, 100), Swap("acme@2", 50, 68, 70)], "no answer named acme@2"),
    ],
)
def test_a_retrain_that_does_not_reach_its_users_is_a_fault(swaps: list[Swap], said: str) -> None:
    assert faults(msgspec.structs.replace(soak(), swaps=swaps)) == said


def test_an_app_that_got_no_answer_is_a_fault() -> None:
    seen = msgspec.structs.replace(soak(), answers={"plain": 150, "streamed": 0})
    assert faults(seen) == "no answer of streamed"


def test_a_process_that_was_replaced_is_a_fault() -> None:
    seen = soak()
    for sample in seen.samples[60:]:
        sample.memory["another"], sample.files["another"] = sample.memory.pop("engine"), sample.files.pop("engine")
    said = faults(seen)
    assert "engine did not live all the time" in said
    assert "another did not live all the time" in said


def test_what_was_hardly_looked_at_is_not_judged() -> None:
    seen = soak()
    seen.swaps[0].served, seen.swaps[1].served = 95, 98
    assert faults(seen) == "only 4 samples after the first swap"
