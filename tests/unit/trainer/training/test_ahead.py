"""What a worker does before there is a job changes nothing in the training that comes."""

import gc
import weakref
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from transformers.models.llama import modeling_llama

from services.trainer.training import __main__ as worker
from services.trainer.training.backend import forget_usual_backend
from services.trainer.training.job import Announced, Foreseen, Loading, Outline, TrainingFailed, TrainingJob
from services.trainer.training.meeting import Meeting
from services.trainer.training.place import ALONE
from services.trainer.training.rehearsal import rehearse
from tests.unit.trainer.tiny import ROWS, TinyRuns, Watcher, write_rows


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> TinyRuns:
    made = TinyRuns(tmp_path_factory.mktemp("tiny"))
    write_rows(made.root / "rows", ROWS)
    return made


def foreseen(job: TrainingJob, **different: Any) -> Foreseen:
    return Foreseen(**msgspec.structs.asdict(job.outline) | different)


def done(runs: TinyRuns, job: TrainingJob, told: Foreseen | None) -> Watcher:
    """A worker's day: what it foresees, the job's outline, the job."""
    folder = runs.root / f"meeting of {job.adapter_folder.parent.name}"
    folder.mkdir()
    meeting, watcher = Meeting(folder), Watcher()
    if told is not None:
        meeting.tell(told)
    meeting.tell(job.outline)
    worker.get_ready(meeting, ALONE, watcher)(job)
    return watcher


def loads(watcher: Watcher) -> int:
    """How often the base model was loaded."""
    return sum(isinstance(event, Loading) and event.what == "base model" for event in watcher.events)


class Refused(Exception):
    """The rows do not pass."""


class RowsAreRead(Meeting):
    """In which no outline comes: a worker that waits for one has done all that it does before."""

    def wait_for(self, kind: type[Any]) -> Any:
        """See ``Meeting``."""
        if kind is Outline:
            raise Refused
        return super().wait_for(kind)


def test_no_base_model_is_loaded_for_a_job_whose_rows_are_still_read(runs: TinyRuns, tmp_path: Path) -> None:
    """What its outline tells is which libraries it needs: on a machine without them it ends at once."""
    meeting, watcher = RowsAreRead(tmp_path), Watcher()
    job = runs.job("announced", rows=runs.root / "rows")
    meeting.tell(Announced(**msgspec.structs.asdict(job.outline)))
    with pytest.raises(Refused):
        worker.get_ready(meeting, ALONE, watcher)
    assert watcher.events == []
    recipe = msgspec.structs.replace(job.recipe, backend="unsloth")
    meeting.tell(Announced(**msgspec.structs.asdict(job.outline) | {"recipe": recipe}))
    with pytest.raises(TrainingFailed, match="unsloth"):
        worker.get_ready(meeting, ALONE, watcher)


@pytest.mark.parametrize(
    ("different", "expected"),
    [
        ({}, 1),
        ({"epochs": 9.0, "learning_rate": 1.0, "rows_per_step": 8}, 1),
        ({"seed": 1}, 2),
        ({"precision": "bfloat16"}, 2),
    ],
    ids=["the same", "another training", "another adapter", "another precision"],
)
def test_a_job_that_was_foreseen_is_trained_as_one_that_was_not(
    runs: TinyRuns, different: dict[str, Any], expected: int, request: pytest.FixtureRequest
) -> None:
    """Loaded once where what is loaded is the same, and anew where it is not; to the last digit."""
    name = request.node.callspec.id
    job, other = (runs.job(f"{name}, {way}", rows=runs.root / "rows") for way in ("foreseen", "not"))
    told = foreseen(job, recipe=msgspec.structs.replace(job.recipe, **different))
    found, plain = done(runs, job, told), done(runs, other, None)
    assert loads(found) == expected
    assert [step.loss for step in found.steps] == [step.loss for step in plain.steps]
    assert (job.adapter_folder / "adapter_model.safetensors").read_bytes() == (
        other.adapter_folder / "adapter_model.safetensors"
    ).read_bytes()


def test_what_cannot_be_loaded_ahead_is_loaded_for_the_job(runs: TinyRuns, tmp_path: Path) -> None:
    """As where the card was full for a while."""
    job = runs.job("after a failure", rows=runs.root / "rows")
    watcher = done(runs, job, foreseen(job, base_folder=tmp_path))
    assert len(watcher.steps) == 4


def test_what_was_loaded_for_nothing_is_given_back_though_it_holds_itself() -> None:
    """No look for garbage was to go through it while it waited."""
    loaded = torch.nn.Linear(1, 1)
    loaded.forward = loaded.forward
    found = weakref.ref(loaded)
    del loaded
    gc.freeze()
    forget_usual_backend()
    assert found() is None


def test_a_rehearsal_leaves_the_base_models_own_functions(runs: TinyRuns) -> None:
    """What is loaded after it is held against them."""
    own = modeling_llama.apply_rotary_pos_emb
    rehearse(runs.job("rehearsed", rows=runs.root / "rows").outline)
    assert modeling_llama.apply_rotary_pos_emb is own


@pytest.mark.parametrize(("bits", "updates"), [(16, 2), (4, 0)])
def test_a_rehearsal_comes_to_its_end_and_is_left_out_for_a_4_bit_base(runs: TinyRuns, bits: int, updates: int) -> None:
    """Whose layers are not the ones that would be tried out."""
    outline = runs.job(f"rehearsed with {bits} bits", rows=runs.root / "rows", base_bits=bits).outline
    assert rehearse(outline) == updates


@pytest.mark.parametrize("part", ["base_folder", "lora", "seed", "backend"])
def test_an_outline_is_loaded_as_another_only_where_nothing_that_is_loaded_differs(
    runs: TinyRuns, part: str, tmp_path: Path
) -> None:
    outline = runs.job(f"outline {part}", rows=runs.root / "rows").outline
    different: dict[str, Outline] = {
        "base_folder": msgspec.structs.replace(outline, base_folder=tmp_path),
        "lora": msgspec.structs.replace(outline, lora=msgspec.structs.replace(outline.lora, rank=1)),
        "seed": msgspec.structs.replace(outline, recipe=msgspec.structs.replace(outline.recipe, seed=0)),
        "backend": msgspec.structs.replace(outline, recipe=msgspec.structs.replace(outline.recipe, backend="unsloth")),
    }
    assert outline.loads_as(outline)
    assert not outline.loads_as(different[part])
    assert not different["backend"].loads_as(different["backend"])
