"""The real backend on a tiny model: a run that is continued reports the whole run, and packed rows do not see each other."""

from collections.abc import Iterator
from pathlib import Path
from statistics import mean

import pytest
import torch
from transformers import AutoModelForCausalLM

from services.trainer.training.job import Finished, Interrupted, MachineFailed, TrainingFailed
from services.trainer.worker import ProcessWorker, Stop
from tests.unit.trainer.tiny import ROWS, TinyRuns, Watcher, write_rows


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TinyRuns]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # more would wait for each other longer than they compute
    yield TinyRuns(tmp_path_factory.mktemp("tiny"))
    torch.set_num_threads(threads)


def result(watcher: Watcher) -> Finished:
    finished = watcher.events[-1]
    assert isinstance(finished, Finished)
    return finished


def test_a_continued_run_reports_the_loss_tokens_and_time_of_the_whole_run(runs: TinyRuns) -> None:
    rows = write_rows(runs.root / "rows", ROWS)
    whole = runs.train(runs.job("whole", rows=rows))
    first = runs.train(runs.job("parts", rows=rows), stop_after=2)
    assert first.events[-1] == Interrupted(step=3)
    second = runs.train(runs.job("parts", rows=rows, resume=True))
    steps = [*first.steps, *second.steps]
    assert [step.step for step in steps] == [1, 2, 3, 4]
    assert [step.loss for step in steps] == [step.loss for step in whole.steps]
    assert [step.tokens for step in steps] == [step.tokens for step in whole.steps]
    assert [step.seconds for step in steps] == sorted(step.seconds for step in steps)
    assert result(second).train_loss == pytest.approx(mean(step.loss for step in steps))
    assert result(second).tokens == steps[-1].tokens == result(whole).tokens
    assert result(second).seconds >= steps[-1].seconds
    assert result(second).update_norm == result(whole).update_norm


def test_a_run_that_was_killed_after_its_last_update_makes_no_further_one(runs: TinyRuns) -> None:
    rows = write_rows(runs.root / "rows of a constant rate", ROWS)
    job = runs.job("done", rows=rows, scheduler="constant")
    before = result(runs.train(job))
    again = runs.train(runs.job("done", rows=rows, resume=True, scheduler="constant"))
    assert again.steps == []
    assert (result(again).steps, result(again).train_loss) == (4, before.train_loss)
    assert (result(again).update_norm, result(again).tokens) == (before.update_norm, before.tokens)


@pytest.mark.parametrize("learnt", [[0], [1], [2], [0, 1, 2]], ids=["first", "second", "third", "all"])
def test_a_joined_row_has_the_loss_that_it_has_alone(learnt: list[int], runs: TinyRuns) -> None:
    """One pass of three rows and three passes of one row are the same update."""
    name = "joined " + "".join(map(str, learnt))
    rows = write_rows(runs.root / name, ROWS[:3], learnt=learnt)
    alone = runs.train(runs.job(f"{name} no", rows=rows, max_steps=1, rows_per_step=3, rows_per_pass=1))
    joined = runs.train(runs.job(f"{name} yes", rows=rows, max_steps=1, rows_per_step=3))
    [one], [other] = alone.steps, joined.steps
    assert other.loss == pytest.approx(one.loss, rel=1e-6)
    assert other.grad_norm == pytest.approx(one.grad_norm, rel=1e-5)
    assert other.tokens == one.tokens == sum(map(len, ROWS[:3]))


def test_a_checkpoint_that_fills_the_disk_leaves_a_run_that_can_be_continued(runs: TinyRuns, tmp_path: Path) -> None:
    job = runs.job("full", rows=write_rows(runs.root / "rows of the full", ROWS), max_steps=1)
    checkpoint = job.checkpoints_folder / "checkpoint-1"
    checkpoint.mkdir()
    (checkpoint / "optimizer.pt").symlink_to("/dev/full")
    with pytest.raises(MachineFailed, match="a checkpoint cannot be written; check the data volume and its free space"):
        ProcessWorker(Stop(), tmp_path / "cache")(job, tmp_path, lambda _: None)


@pytest.mark.parametrize(("rate", "reason"), [(0.0, "changed nothing"), (1e30, "the loss became nan at step 2")])
def test_a_run_that_learns_nothing_or_runs_away_fails_and_writes_no_adapter(
    runs: TinyRuns, rate: float, reason: str
) -> None:
    """One sentence with the remedy, and nothing that could be published."""
    job = runs.job(f"rate {rate}", rows=write_rows(runs.root / f"rows at {rate}", ROWS), learning_rate=rate)
    with pytest.raises(TrainingFailed, match=f"{reason}.*recipe.learning_rate"):
        runs.train(job)
    assert not job.adapter_folder.exists()


def test_accuracy_is_the_share_of_learnt_tokens_that_the_model_would_have_chosen(runs: TinyRuns) -> None:
    """Of a whole update, however it is split into passes; and of the holdout, whatever its batches hold."""
    spoken = [half_right(runs, first, count) for first, count in ((3, 9), (5, 12), (8, 6), (4, 15))]
    rows = write_rows(runs.root / "counted", [tokens for tokens, _ in spoken], learnt=[0, 1, 3])
    learnt = [spoken[place] for place in (0, 1, 3)]
    expected = sum(right for _, right in learnt) / sum(len(tokens) - 2 for tokens, _ in learnt)
    assert 0.2 < expected < 0.9
    for rows_per_pass in (1, 2, 4):
        job = runs.job(
            f"counted {rows_per_pass}",
            rows=rows,
            holdout=rows,
            max_steps=1,
            rows_per_step=4,
            rows_per_pass=rows_per_pass,
            learning_rate=1e-9,
        )
        watcher = runs.train(job)
        assert watcher.steps[0].accuracy == pytest.approx(expected)
        assert result(watcher).holdout_accuracy == pytest.approx(expected)


def half_right(runs: TinyRuns, first: int, count: int) -> tuple[list[int], int]:
    """A row whose answer is what the untrained model would say, but for every other token; and how many it would say."""
    model = AutoModelForCausalLM.from_pretrained(runs.base)
    tokens, right = [first, first + 1], 0
    for place in range(count):
        likeliest = int(model(input_ids=torch.tensor([tokens])).logits[0, -1].argmax())
        tokens.append((likeliest + 1) % 256 if place % 2 else likeliest)
        right += place % 2 == 0
    return tokens, right
