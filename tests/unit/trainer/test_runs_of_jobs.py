"""A run belongs to a job: it is continued for that job whatever ran meanwhile, kept until the job ends, and becomes one version."""

from pathlib import Path

import msgspec
import pytest

from services.registry.manifest import read_manifest
from services.trainer.gate.client import JudgingFailed
from services.trainer.results import read_measured
from services.trainer.rows import Rows
from services.trainer.run import RUN_FILE, RunRecord
from services.trainer.training.job import MachineFailed, Step
from tests.unit.trainer.house import FakeJournal, FakeJudge, FakeWorker, House


class Killed(BaseException):
    """Ends the process, so to speak."""


class FatalJournal(FakeJournal):
    """Kills the process once the version is published."""

    def published(self, version: str) -> None:
        """See ``Journal``."""
        super().published(version)
        raise Killed


def test_a_job_continues_its_own_run_after_another_jobs(house: House) -> None:
    """Even where the other's ended in between, with another recipe."""
    mine, other = house.task(job="ftjob-a"), house.task(["recipe.seed=7"], job="ftjob-b")
    first, _ = house.retrain(FakeWorker(stop_at=2), task=mine)
    house.retrain(FakeWorker(), task=other)
    worker = FakeWorker()
    second, said = house.retrain(worker, task=mine)
    assert (second.run, second.version) == (first.run, "acme@2")
    assert worker.jobs[0].resume_from is not None
    assert f"continuing run {first.run}" in said


def test_a_run_whose_job_may_go_on_is_not_taken_by_another(house: House) -> None:
    """Though rows, recipe and base are the same; once its job has ended it is taken: nothing is trained twice."""
    first, _ = house.retrain(FakeWorker(stop_at=2), task=house.task(job="ftjob-a"))
    waiting, ended = house.task(job="ftjob-b", unfinished=frozenset({"ftjob-a", "ftjob-b"})), house.task(job="ftjob-c")
    assert house.retrain(FakeWorker(stop_at=1), task=waiting)[0].run != first.run
    (house.paths.runs / house.runs[-1] / RUN_FILE).unlink()
    taken, _ = house.retrain(FakeWorker(), task=ended)
    assert taken.run == first.run
    record = msgspec.json.decode((house.paths.runs / first.run / RUN_FILE).read_bytes(), type=RunRecord)
    assert (record.job, record.state) == ("ftjob-c", "published")


@pytest.mark.parametrize(
    "record", [b"{", b'{"state": "\xff"}', b'{"unknown": ' + b"[" * 5000], ids=["cut", "byte", "deep"]
)
def test_a_run_whose_record_is_damaged_is_passed_over(house: House, record: bytes) -> None:
    """The next retrain begins a run of its own."""
    first, _ = house.retrain(FakeWorker(stop_at=2))
    (house.paths.runs / first.run / RUN_FILE).write_bytes(record)
    second, _ = house.retrain(FakeWorker())
    assert second.run != first.run
    assert second.version == "acme@1"


def test_a_line_that_cannot_be_read_is_no_step(tmp_path: Path) -> None:
    """Whether a kill cut it or the disk changed it; what lies around it counts."""
    first, second = (
        msgspec.json.encode(Step(step=number, of=2, loss=0.5, learning_rate=0.1, grad_norm=1.0, tokens=9, seconds=1.0))
        for number in (1, 2)
    )
    damaged = [b'{"type": "st', b'{"type": "\xff"}', b'{"type": "step", "unknown": ' + b"[" * 5000]
    (tmp_path / "events.jsonl").write_bytes(b"\n".join([first, *damaged, second]))
    assert [measured.step for measured in read_measured(tmp_path / "events.jsonl").steps] == [1, 2]


def test_the_run_of_a_job_that_may_go_on_is_never_deleted(house: House) -> None:
    """However many run meanwhile; the others' copies of the rows go as ever."""
    waiting, _ = house.retrain(FakeWorker(stop_at=2), task=house.task(job="ftjob-a"))
    for number in range(7):
        other = house.task([f"recipe.seed={number}"], job=f"ftjob-{number}", unfinished=frozenset({"ftjob-a"}))
        house.retrain(FakeWorker(), task=other)
    assert len(house.runs) == 6
    assert house.runs[0] == waiting.run


@pytest.mark.parametrize("recorded", [False, True], ids=["before", "after"])
def test_a_kill_after_publishing_makes_no_second_version(house: House, *, recorded: bool) -> None:
    """Before or after the run's record says so: the version is found by its run, and judged."""
    house.journal = FatalJournal()
    with pytest.raises(Killed):
        house.retrain(FakeWorker(), task=house.task(job="ftjob-a"))
    [run] = house.runs
    if not recorded:
        file = house.paths.runs / run / RUN_FILE
        file.write_text(file.read_text().replace('"published"', '"running"'))
    house.journal = FakeJournal()
    worker = FakeWorker()
    outcome, _ = house.retrain(worker, task=house.task(job="ftjob-a"))
    assert worker.jobs == []
    assert (outcome.version, outcome.run, outcome.passed, outcome.steps) == ("acme@1", run, True, 4)
    assert house.registry.versions("acme") == [1]


def test_judging_that_was_interrupted_is_done_again_without_training(house: House) -> None:
    task = house.task(job="ftjob-a")
    house.retrain(FakeWorker(), task=task, judge=FakeJudge(fail=JudgingFailed("judging was interrupted")))
    worker = FakeWorker()
    outcome, _ = house.retrain(worker, task=task)
    assert (outcome.version, outcome.passed, worker.jobs) == ("acme@1", True, [])


def test_what_the_machine_ended_is_continued_by_the_next_job_of_the_same_rows(house: House) -> None:
    with pytest.raises(MachineFailed):
        house.retrain(FakeWorker(stop_at=3, fail=MachineFailed("full")), task=house.task(job="ftjob-a"))
    worker = FakeWorker()
    house.retrain(worker, task=house.task(job="ftjob-b"))
    assert worker.jobs[0].resume_from is not None
    assert worker.jobs[0].resume_from.name == "checkpoint-3"


def test_a_jobs_files_are_trained_and_its_validation_file_is_held_out(house: House, tmp_path: Path) -> None:
    """Under the request's own names for them, nothing split off the training file."""
    training, validation = tmp_path / "file-1", tmp_path / "file-2"
    training.write_text("".join(f'{{"prompt": "q {line}", "completion": "a {line}"}}\n' for line in range(12)))
    validation.write_text("".join(f'{{"prompt": "v {line}", "completion": "a {line}"}}\n' for line in range(3)))
    judge = FakeJudge()
    rows = Rows(training=training, validation=validation)
    house.retrain(FakeWorker(), task=house.task(["data.holdout_share=0.5"], rows=rows), judge=judge)
    [(_, prepared)] = judge.judged
    assert len(prepared.train) == 12
    assert [row.place for row in prepared.holdout_rows] == [f"validation_file:{line}" for line in (1, 2, 3)]
    manifest = read_manifest(house.registry.folder("acme", 1))
    assert [file["file"] for file in manifest.dataset["files"]] == ["training_file", "validation_file"]


def test_a_retrain_tells_its_milestones_in_order(house: House) -> None:
    outcome, _ = house.retrain(FakeWorker())
    steps = [f"{what} {number}" for number in range(1, 5) for what in ("step", "checkpoint")]
    told = [f"began {outcome.run}", *steps, "finished", "published acme@1", "judged True", "promoted acme@1"]
    assert house.journal.told == ["validated 20", *told]
