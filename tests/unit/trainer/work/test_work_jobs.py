"""One job from its claim to its end: however its retrain ends, the queue says so to its owner, without a word of the rows."""

import csv
import io
import os
import shutil
import signal

import pytest

from services.jobs.records import Failure
from services.registry.manifest import read_manifest
from services.registry.pointer import read_pointer
from services.trainer.gate.client import JudgingFailed
from services.trainer.outcome import Outcome
from services.trainer.training.job import MachineFailed, TrainingFailed
from tests.unit.trainer.house import FakeJudge, FakeWorker
from tests.unit.trainer.work.office import Office, rows


def test_a_job_that_passes_the_gate_names_its_model_and_leaves_its_figures(office: Office) -> None:
    """The version is in service, the result file has a line for each step, and the checkpoint is the model."""
    job = office.submit_api(rows(20), rows(4, "held out"), adapter="acme")
    done = office.do_next()
    assert (done.status, done.fine_tuned_model, done.trained_tokens) == ("succeeded", "acme@1", 400)
    pointer = read_pointer(office.house.registry, "acme")
    assert pointer is not None
    assert pointer.version == 1
    [file] = done.result_files
    stored = office.desk.files.get(file)
    assert (stored.owner, stored.purpose) == ("app", "fine-tune-results")
    lines = list(csv.reader(io.StringIO(office.desk.files.content(file).read_text())))
    assert lines[0] == ["step", "train_loss", "train_accuracy", "valid_loss", "valid_mean_token_accuracy"]
    assert lines[1:] == [
        ["1", "1.0", "0.25", "", ""],
        ["2", "0.5", "0.5", "", ""],
        ["3", f"{1 / 3}", "0.75", "", ""],
        ["4", "0.25", "1.0", "0.4", "0.9"],
    ]
    [checkpoint] = office.desk.queue.checkpoints(job.id).data
    assert (checkpoint.model, checkpoint.step) == ("acme@1", 4)
    assert checkpoint.metrics["full_valid_mean_token_accuracy"] == 0.9


def test_the_events_tell_the_whole_way_with_figures_and_no_content(office: Office) -> None:
    """Every milestone in order; the first and the last step whatever their pace; the gate's verdict as data."""
    job = office.submit_api(rows(20, "Geheimnis"), adapter="acme")
    office.do_next()
    events = office.events(job)
    said = [event.message for event in events]
    milestones = ["Created fine-tuning job", "Files validated", "Fine-tuning job started", "The rows are fit", "Run "]
    milestones += ["Step 1/4", "Saved the state after step 1", "Step 4/4", "Trained 4 steps", "acme@1 is published"]
    milestones += ["The gate passed acme@1", "acme@1 is in service", "New fine-tuned model created: acme@1"]
    places = [next(place for place, text in enumerate(said) if text.startswith(start)) for start in milestones]
    assert places == sorted(places)
    metrics = [event for event in events if event.type == "metrics"]
    assert metrics[-1].data == {
        "step": 4,
        "total_steps": 4,
        "train_loss": 0.25,
        "train_mean_token_accuracy": 1.0,
        "learning_rate": 1e-4,
    }
    [verdict] = [event for event in events if event.message.startswith("The gate passed")]
    assert verdict.data == {"passed": True, "reasons": [], "rules": [], "scores": []}
    assert not [event for event in events if "Geheimnis" in f"{event.message} {event.data}"]


def test_a_job_that_the_gate_refuses_fails_with_its_reasons(office: Office) -> None:
    """The version stays a candidate, named by the job and its events."""
    job = office.submit()
    done = office.do_next(judge=FakeJudge("answers end: 10% do", "too few rows"))
    assert done.failure == Failure(code="gate_refused", message="answers end: 10% do; too few rows")
    assert (done.status, done.version, done.fine_tuned_model) == ("failed", "acme@1", None)
    assert len(done.result_files) == 1
    assert read_pointer(office.house.registry, "acme") is None
    assert any("The gate refused acme@1; answers end" in event.message for event in office.events(job))


def test_without_a_server_a_job_is_not_judged(office: Office) -> None:
    office.submit()
    done = office.do_next(judge=FakeJudge(fail=JudgingFailed("no server answers; start it with `make up`")))
    assert done.failure == Failure(code="not_judged", message="no server answers; start it with `make up`")
    assert done.outcome is not None
    assert done.outcome["version"] == "acme@1"


@pytest.mark.parametrize(
    ("training", "validation", "param"),
    [
        (rows(20) + '{"prompt": "Geheimnis"}\n', None, "training_file"),
        (rows(20), '{"prompt": "Geheimnis"}\n', "validation_file"),
        ('{"prompt": "Geheimnis"}\n', '{"prompt": "Geheimnis"}\n', "training_file"),
        (rows(3), rows(3, "held out"), "training_file"),
    ],
    ids=["training", "validation", "both", "too few"],
)
def test_rows_that_are_refused_fail_the_job_with_the_file_to_blame(
    office: Office, training: str, validation: str | None, param: str
) -> None:
    """Every fault with its line, none with its content; nothing was loaded."""
    office.submit_api(training, validation)
    worker = FakeWorker()
    done = office.do_next(worker)
    assert done.failure is not None
    assert (done.failure.code, done.failure.param) == (f"invalid_{param}", param)
    assert done.failure.message.startswith("the data was refused")
    assert "Geheimnis" not in f"{done.failure} {done.outcome}"
    assert done.outcome is not None
    assert done.outcome["faults"]
    assert worker.jobs == []


def test_a_file_that_was_deleted_before_its_turn_fails_the_job(office: Office) -> None:
    job = office.submit_api(rows(20))
    assert job.asked.training_file is not None
    office.desk.files.delete(job.asked.training_file)
    done = office.do_next()
    assert done.failure is not None
    assert (done.failure.code, done.failure.param) == ("invalid_training_file", "training_file")


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (TrainingFailed("the loss became nan"), "training_failed", "the loss became nan"),
        (MachineFailed("the card's memory is full"), "machine_failed", "the card's memory is full"),
        (OSError(28, "No space left on device", "runs"), "machine_failed", "runs: No space left on device; check the"),
        (ZeroDivisionError("Geheimnis"), "internal_error", "a fault of the trainer's own; its log says which"),
    ],
    ids=["recipe", "machine", "disk", "ours"],
)
def test_whatever_ends_a_training_is_one_sentence_of_the_job(
    office: Office, error: Exception, code: str, sentence: str
) -> None:
    """And the worker goes on with the next."""
    office.submit()
    failed = office.do_next(FakeWorker(fail=error))
    assert failed.failure is not None
    assert failed.failure.code == code
    assert failed.failure.message.startswith(sentence)
    office.submit()
    assert office.do_next().status == "succeeded"


def test_the_log_of_a_fault_of_ours_says_where_and_not_what(office: Office, capsys: pytest.CaptureFixture[str]) -> None:
    """An error nobody foresaw may quote a row: the log has its type and its places, not its text."""
    office.submit()
    office.do_next(FakeWorker(fail=ZeroDivisionError("Geheimnis")))
    printed = capsys.readouterr()
    logged = printed.out + printed.err
    assert "ZeroDivisionError" in logged
    assert "Geheimnis" not in logged


def test_a_setting_that_is_wrong_by_now_fails_the_job(office: Office) -> None:
    office.submit(overrides=["recipe.epoch=2"])
    done = office.do_next()
    assert done.failure is not None
    assert done.failure.code == "invalid_settings"
    assert "unknown field `epoch`" in done.failure.message


def test_a_job_is_cancelled_within_seconds_while_it_trains(office: Office) -> None:
    """Nothing is published, and the next job has its turn."""
    job = office.submit()
    cancelled = office.do_next(
        FakeWorker(stop_at=2, before=office.until_stopped(lambda: office.desk.queue.cancel(job.id)))
    )
    assert cancelled.status == "cancelled"
    assert office.house.registry.versions("acme") == []
    office.submit(overrides=["recipe.seed=1"])
    assert office.do_next().status == "succeeded"


def test_a_paused_job_goes_on_from_its_checkpoint_after_another(office: Office) -> None:
    job = office.submit()
    paused = office.do_next(FakeWorker(stop_at=2, before=office.until_stopped(lambda: office.desk.queue.pause(job.id))))
    assert paused.status == "paused"
    office.submit(overrides=["recipe.seed=1"])
    assert office.do_next().fine_tuned_model == "acme@1"
    office.desk.queue.resume(job.id)
    worker = FakeWorker()
    assert office.do_next(worker).fine_tuned_model == "acme@2"
    assert worker.jobs[0].resume_from is not None
    assert worker.jobs[0].resume_from.name == "checkpoint-2"


@pytest.mark.parametrize("wish", ["cancel", "pause"])
def test_a_wish_is_heard_while_judging_too(office: Office, wish: str) -> None:
    """A paused job is judged later without a second training."""
    job = office.submit()

    class SlowJudge(FakeJudge):
        def __call__(self, *_: object) -> None:  # type: ignore[override]
            office.until_stopped(lambda: getattr(office.desk.queue, wish)(job.id))()
            raise JudgingFailed("judging was interrupted")

    stopped = office.do_next(judge=SlowJudge())
    assert (stopped.status, stopped.version) == ({"cancel": "cancelled", "pause": "paused"}[wish], "acme@1")
    if wish == "pause":
        office.desk.queue.resume(job.id)
        worker = FakeWorker()
        assert office.do_next(worker).fine_tuned_model == "acme@1"
        assert worker.jobs == []


def test_a_worker_that_is_asked_to_end_puts_its_job_back_first_in_line(office: Office) -> None:
    """The next worker continues its run; jobs that came later wait."""
    job = office.submit()
    office.submit(overrides=["recipe.seed=1"])
    first = FakeWorker(stop_at=2, before=lambda: os.kill(os.getpid(), signal.SIGUSR1))
    signal.signal(signal.SIGUSR1, office.stop.handle)
    assert office.do_next(first).status == "queued"
    again = Office(office.house)
    second = FakeWorker()
    done = again.do_next(second)
    assert (done.id, done.status) == (job.id, "succeeded")
    assert second.checkpoints_at_start == ["checkpoint-1", "checkpoint-2"]


def test_a_job_whose_worker_was_killed_between_steps_goes_on(office: Office) -> None:
    """The kernel frees the queue; what was claimed is claimed again, and trains on from its checkpoint."""

    class Killed(BaseException):
        pass

    job = office.submit()
    with pytest.raises(Killed), office.desk.work.holding():
        office.do_next(FakeWorker(stop_at=3, fail=Killed()))  # type: ignore[arg-type]
    assert office.desk.queue.get(job.id).status == "running"
    worker = FakeWorker()
    with office.desk.work.holding():
        done = office.do_next(worker)
    assert (done.id, done.fine_tuned_model) == (job.id, "acme@1")
    assert worker.jobs[0].resume_from is not None


def test_hyperparameters_and_suffix_decide_what_is_trained(office: Office) -> None:
    """Beside them the settings as they are; a pass still takes as many rows as memory holds."""
    asked = {"n_epochs": 7, "batch_size": 6, "learning_rate_multiplier": 2.0}
    job = office.submit_api(rows(20), adapter="sales", seed=11, hyperparameters=asked)
    done = office.do_next()
    assert (done.id, done.fine_tuned_model) == (job.id, "sales@1")
    recipe = read_manifest(office.house.registry.folder("sales", 1)).recipe["recipe"]
    found = {name: recipe[name] for name in ("epochs", "rows_per_step", "rows_per_pass", "learning_rate", "seed")}
    assert found == {"epochs": 7.0, "rows_per_step": 6, "rows_per_pass": 0, "learning_rate": 4e-4, "seed": 11}


def test_an_operators_job_says_its_outcome_as_the_command_prints_it(office: Office) -> None:
    office.submit()
    done = office.do_next()
    assert done.outcome is not None
    assert set(done.outcome) == set(Outcome.__struct_fields__)
    assert (done.outcome["version"], done.outcome["passed"]) == ("acme@1", True)


def test_a_lost_record_of_the_run_costs_the_figures_and_not_the_model(office: Office) -> None:
    """Somebody tidied up data/runs while the gate judged."""

    class TidyJudge(FakeJudge):
        def loaded(self, _adapter: str) -> set[int]:
            shutil.rmtree(office.house.paths.runs)
            return set()

    office.submit()
    done = office.do_next(judge=TidyJudge())
    assert (done.status, done.fine_tuned_model) == ("succeeded", "acme@1")
