"""What a run of requests at random must not leave."""

from tests.fuzz.judgement import BUSY, Fuzz, Round, faults_of
from tests.soak.judgement import Sample

MIB = 2**20


def fuzz(*, grown: int = 0, opened: int = 0, **statuses: int) -> Fuzz:
    """Four rounds, of which the first takes memory and files for what is made once, and the last leaves so many MiB and files."""
    held, files = [900, 1000, 1000, 1000 + grown], [20, 30, 29, 30 + opened]
    samples = [Sample(0, {"server": m * MIB}, {"server": count}) for m, count in zip(held, files, strict=True)]
    rounds = [Round(seed, 100, 1.0, sample) for seed, sample in enumerate(samples)]
    return Fuzz(
        rounds, {"POST /v1/a": {"200": 300, "400": 100, **{name.strip("_"): n for name, n in statuses.items()}}}
    )


def test_a_server_that_keeps_nothing_passes() -> None:
    """Also one that shakes by less than the bound, and one that was too busy to say of a schema."""
    seen = fuzz(grown=40)
    seen.answers["POST /v1/b"] = {BUSY: 3}
    assert faults_of(seen) == []
    assert (seen.cases, seen.statuses["400"]) == (403, 100)


def test_any_other_answer_of_a_broken_server_is_a_fault() -> None:
    """500, and a 503 that is of something else."""
    assert faults_of(fuzz(_500=1)) == ["1 answers were 500"]
    assert faults_of(fuzz(_503=2)) == ["2 answers were 503"]


def test_memory_and_files_that_are_kept_are_faults() -> None:
    """More than 5 %, or one file."""
    assert faults_of(fuzz(grown=60)) == ["memory is not flat: +6.0%"]
    assert faults_of(fuzz(opened=1)) == ["server has +1 file descriptors"]
