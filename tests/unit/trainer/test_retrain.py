"""A retrain from rows to pointer with a worker that only writes files: what is kept, published, refused."""

import contextlib
import hashlib
import json
import os
import shutil
import signal
from pathlib import Path

import msgspec
import pytest
from datasets import Dataset

from services.base_model.errors import BaseModelError
from services.dataset.faults import DataRefused
from services.dataset.sources import Snapshot
from services.dataset.tokenizer import load_tokenizer
from services.registry.manifest import read_manifest
from services.registry.pointer import read_pointer
from services.registry.rows import read_rows
from services.trainer.gate.client import JudgingFailed
from services.trainer.rows import Rows
from services.trainer.training.job import TrainingFailed
from services.trainer.worker import Stop
from tests.unit.trainer.house import FakeJudge, FakeWorker, House
from tests.unit.trainer.prober import FakeProber


def test_a_version_that_is_not_better_stays_a_candidate(house: House) -> None:
    """The version before goes on serving, and the outcome says what the gate has against the new one."""
    house.retrain(FakeWorker())
    outcome, _ = house.retrain(FakeWorker(), judge=FakeJudge("answers end: 10% do"))
    assert (outcome.version, outcome.passed, outcome.reasons) == ("acme@2", False, ["answers end: 10% do"])
    pointer = read_pointer(house.registry, "acme")
    assert pointer is not None
    assert pointer.version == 1
    assert house.registry.versions("acme") == [1, 2]


def test_without_a_verdict_a_version_stays_a_candidate(house: House) -> None:
    """No server to judge on is no reason to lose a training, and none to serve it unjudged."""
    outcome, _ = house.retrain(FakeWorker(), judge=FakeJudge(fail=JudgingFailed("no server answers")))
    assert (outcome.version, outcome.passed, outcome.reasons) == ("acme@1", None, ["no server answers"])
    assert read_pointer(house.registry, "acme") is None


def test_the_gate_gets_the_held_out_rows_and_the_version_every_rows_fate(house: House) -> None:
    """What is judged was never trained, and the version says of each row what became of it."""
    house.write_rows(40)
    judge = FakeJudge()
    house.retrain(FakeWorker(), ["data.holdout_share=0.3"], judge=judge)
    [(version, prepared)] = judge.judged
    fates = read_rows(house.registry.folder("acme", version))
    assert len(fates) == 40
    assert [fate.line for fate in fates] == list(range(1, 41))
    held_out = {fate.sha256 for fate in fates if fate.use == "holdout"}
    assert {example.row_hash for example in prepared.holdout} == held_out != set()
    assert [row.place for row in prepared.holdout_rows] == [
        f"{fate.file}:{fate.line}" for fate in fates if fate.use == "holdout"
    ]


def test_old_versions_go_and_what_a_server_holds_stays(house: House) -> None:
    """The newest so many stay, and whatever the running server still has loaded."""
    judge = FakeJudge("not better")
    judge.in_use = {2}
    house.retrain(FakeWorker())
    for _ in range(4):
        _, said = house.retrain(FakeWorker(), ["versions.keep=2"], judge=judge)
    assert house.registry.versions("acme") == [1, 2, 4, 5]
    assert "acme@3 was deleted: versions.keep = 2" in said
    house.retrain(FakeWorker(), ["versions.keep=2"], judge=FakeJudge(fail=JudgingFailed("no server answers")))
    assert house.registry.versions("acme") == [1, 2, 4, 5, 6], "without a server nobody knows what is in use"


def test_rows_become_a_version_in_service(house: House) -> None:
    outcome, _ = house.retrain(FakeWorker())
    pointer = read_pointer(house.registry, "acme")
    assert pointer is not None
    assert (outcome.version, pointer.version) == ("acme@1", 1)
    folder = house.registry.folder("acme", 1)
    manifest = read_manifest(folder)
    assert manifest.dataset["files"][0]["file"] == "a.jsonl"
    assert manifest.recipe["recipe"]["seed"] == 3407
    assert manifest.metrics["train_rows"] + manifest.metrics["holdout_rows"] == 20
    config = json.loads((folder / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["auto_mapping"]) == ("tiny-base", None)
    assert sorted(file.name for file in folder.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "loss.svg",
        "manifest.json",
        "rows.csv",
    ]


def test_no_row_of_the_data_is_in_the_registry(house: House) -> None:
    house.write_rows(20)
    (house.paths.datasets / "b.jsonl").write_text('{"prompt": "Geheimnis-4711", "completion": "Geheimnis-4712"}')
    house.retrain(FakeWorker())
    published = b"".join(file.read_bytes() for file in house.registry.folder("acme", 1).iterdir())
    assert b"Geheimnis" not in published


def test_a_request_to_stop_while_publishing_lets_it_finish(house: House) -> None:
    stop = Stop()

    def asked() -> None:
        os.kill(os.getpid(), signal.SIGUSR1)

    signal.signal(signal.SIGUSR1, stop.handle)
    outcome, _ = house.retrain(FakeWorker(), prober=FakeProber(asked))
    assert stop.requested
    assert outcome.version == "acme@1"


@pytest.mark.parametrize("fault", ["bad row", "link", "few rows", "no base model"])
def test_a_retrain_is_refused_before_a_model_is_loaded_and_keeps_no_copy(house: House, fault: str) -> None:
    """A worker that had begun to import is sent away."""
    if fault == "bad row":
        (house.paths.datasets / "b.jsonl").write_text('{"prompt": "a"}')
    elif fault == "link":
        (house.paths.datasets / "b.jsonl").symlink_to("a.jsonl")
    elif fault == "few rows":
        house.write_rows(2)
    else:
        shutil.rmtree(house.paths.models / "tiny-base")
    worker = FakeWorker()
    with pytest.raises((DataRefused, BaseModelError)):
        house.retrain(worker)
    assert worker.told == ([] if fault == "no base model" else ["announce", "dismiss"])
    assert house.runs == []


def test_a_failed_run_publishes_nothing_and_the_old_version_serves_on(house: House) -> None:
    house.retrain(FakeWorker())
    house.write_rows(30)
    with pytest.raises(TrainingFailed, match="the card's memory is full"):
        house.retrain(FakeWorker(fail=TrainingFailed("the card's memory is full")))
    pointer = read_pointer(house.registry, "acme")
    assert pointer is not None
    assert (pointer.version, house.registry.versions("acme")) == (1, [1])


def test_rows_that_change_while_training_do_not_change_the_run(house: House) -> None:
    worker = FakeWorker(before=lambda: house.write_rows(3))
    outcome, _ = house.retrain(worker)
    kept = (house.paths.runs / outcome.run / "snapshot" / "a.jsonl").read_text()
    assert len(kept.splitlines()) == 20


class Overtaken(Rows, frozen=True, kw_only=True):
    """Rows that somebody replaces as soon as they are copied."""

    def copy(self, snapshot: Path) -> Snapshot:
        """See ``Rows``."""
        copied = super().copy(snapshot)
        (self.training / "a.jsonl").write_text('{"prompt": "a", "completion": "too late"}\n' * 20)
        return copied


def test_rows_that_change_once_they_are_copied_are_read_as_they_were(house: House) -> None:
    """What the worker is handed and what the manifest says are both of the copy."""
    before = (house.paths.datasets / "a.jsonl").read_bytes()
    worker = FakeWorker()
    house.retrain(worker, task=house.task(rows=Overtaken(training=house.paths.datasets)))
    [job] = worker.jobs
    tokenizer = load_tokenizer(job.base_folder)
    handed = [
        tokenizer.decode(row["input_ids"])
        for folder in (job.train_rows, job.holdout_rows)
        if folder is not None
        for row in Dataset.load_from_disk(str(folder))
    ]
    assert len(handed) == 20
    assert all(any(f"answer {index}<" in row for row in handed) for index in range(20))
    [file] = read_manifest(house.registry.folder("acme", 1)).dataset["files"]
    assert file["sha256"] == hashlib.sha256(before).hexdigest()


def test_identical_runs_are_told_apart_by_their_results_only(house: House) -> None:
    house.retrain(FakeWorker())
    second, _ = house.retrain(FakeWorker())
    first_manifest, second_manifest = (read_manifest(house.registry.folder("acme", version)) for version in (1, 2))
    assert second.version == "acme@2"
    assert second_manifest.parent == 1
    assert msgspec.structs.asdict(first_manifest)["dataset"] == msgspec.structs.asdict(second_manifest)["dataset"]


@pytest.mark.parametrize("ending", ["published", "interrupted", "failed", "damaged"])
def test_old_runs_go_whatever_became_of_them_and_with_them_the_copies_of_the_rows(house: House, ending: str) -> None:
    began = []
    for count in range(20, 27):
        house.write_rows(count)
        worker = FakeWorker(
            stop_at=2 if ending == "interrupted" else None, fail=TrainingFailed("x") if ending == "failed" else None
        )
        with contextlib.suppress(TrainingFailed):
            house.retrain(worker)
        began.append(worker.jobs[0].checkpoints_folder.parent.name)
        if ending == "damaged":
            (house.paths.runs / began[-1] / "run.json").write_text("{")
    assert house.runs == began[-5:]


def test_the_worker_imports_while_the_rows_are_read_and_loads_when_they_have_passed(house: House) -> None:
    worker = FakeWorker()

    class Read(Rows, frozen=True, kw_only=True):
        def copy(self, snapshot: Path) -> Snapshot:
            worker.told.append("rows")
            return super().copy(snapshot)

    house.retrain(worker, task=house.task(rows=Read(training=house.paths.datasets)))
    assert worker.told == ["announce", "rows", "expect", "job", "settle", "settle", "dismiss"]


def test_what_scores_the_probe_gets_ready_beside_the_training_and_not_before(house: House) -> None:
    """While rows are read the worker's own start is what takes the cores."""
    worker = FakeWorker()
    house.retrain(worker, prober=FakeProber(told=worker.told))
    assert worker.told == [
        *("announce", "expect", "expect a probe", "job", "settle", "probe", "settle", "dismiss the prober", "dismiss"),
    ]


def test_a_probe_that_has_its_memory_does_not_wait_for_that_of_the_training(house: House) -> None:
    worker = FakeWorker()
    house.retrain(worker, prober=FakeProber(told=worker.told, loaded=True))
    assert worker.told[3:6] == ["job", "probe", "settle"]


@pytest.mark.parametrize("loaded", [True, False])
def test_nothing_is_published_of_a_worker_that_ends_otherwise_than_it_said(house: House, loaded: bool) -> None:  # noqa: FBT001
    """Whether or not its adapter was probed meanwhile."""
    worker = FakeWorker(unsettled=TrainingFailed("another card is full"))
    with pytest.raises(TrainingFailed, match="another card is full"):
        house.retrain(worker, prober=FakeProber(loaded=loaded))
    assert house.registry.versions("acme") == []
    assert json.loads((house.paths.runs / house.runs[-1] / "run.json").read_bytes())["state"] == "failed"


def test_a_training_that_fails_sends_away_what_would_have_scored_its_probe(house: House) -> None:
    worker = FakeWorker(fail=TrainingFailed("no"))
    with pytest.raises(TrainingFailed):
        house.retrain(worker, prober=FakeProber(told=worker.told))
    assert worker.told[-2:] == ["dismiss the prober", "dismiss"]
