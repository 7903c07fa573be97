"""A run takes the cards that it may use, and several only where they pay."""

import os
from pathlib import Path

import msgspec
import pytest

from services.trainer.cards import choose_cards, visible_cards
from services.trainer.training.job import TrainingFailed, TrainingJob
from services.trainer.training.meeting import Meeting
from services.trainer.training.place import ALONE, Place, take_place


@pytest.mark.parametrize(
    ("named", "nodes", "visible"),
    [
        (None, 0, []),
        (None, 2, ["0", "1"]),
        ("1", 2, ["1"]),
        ("2, 0", 4, ["2", "0"]),
        ("", 2, []),
        ("-1", 2, []),
        ("0,-1,1", 2, ["0"]),
        ("GPU-8f,GPU-2a", 2, ["GPU-8f", "GPU-2a"]),
        ("0,1", 0, []),
        ("MIG-1,MIG-2", 2, ["MIG-1"]),
    ],
)
def test_cards_are_those_of_the_container_that_cuda_is_to_see(
    named: str | None, nodes: int, visible: list[str], tmp_path: Path
) -> None:
    for name in ["nvidiactl", "nvidia-uvm", *(f"nvidia{4 + number}" for number in range(nodes))]:
        (tmp_path / name).touch()
    environment = {} if named is None else {"CUDA_VISIBLE_DEVICES": named}
    assert visible_cards(environment, tmp_path) == visible


@pytest.mark.parametrize(
    ("mebibytes", "seen", "rows", "backend", "cards"),
    [
        (4096, 0, 8, "auto", 1),
        (4096, 1, 8, "auto", 1),
        (4096, 4, 8, "auto", 4),
        (4096, 4, 3, "packed", 3),
        (4096, 4, 8, "unsloth", 1),
        (2047, 4, 8, "auto", 1),
        (2048, 2, 8, "auto", 2),
    ],
)
def test_several_cards_are_taken_where_the_model_is_large_enough(
    mebibytes: int,
    seen: int,
    rows: int,
    backend: str,
    cards: int,
    job: TrainingJob,
    tmp_path: Path,
) -> None:
    with (tmp_path / "model.safetensors").open("wb") as weights:
        weights.truncate(mebibytes << 20)
    recipe = msgspec.structs.replace(job.recipe, rows_per_step=rows, backend=backend)
    assert choose_cards(msgspec.structs.replace(job, recipe=recipe), seen).cards == cards


@pytest.mark.parametrize(
    ("wanted", "seen", "backend", "reason"),
    [
        (2, 1, "auto", "worker.cards = 2, but the trainer sees 1; set"),
        (2, 0, "auto", "worker.cards = 2, but the trainer sees 0; set"),
        (2, 2, "unsloth", 'recipe.backend = "unsloth" trains on one; set'),
    ],
)
def test_more_cards_than_can_be_used_are_refused(
    wanted: int,
    seen: int,
    backend: str,
    reason: str,
    job: TrainingJob,
) -> None:
    recipe = msgspec.structs.replace(job.recipe, backend=backend)
    with pytest.raises(TrainingFailed, match=reason):
        choose_cards(msgspec.structs.replace(job, recipe=recipe, cards=wanted), seen)


def test_a_rank_sees_its_own_card_and_nothing_of_the_launcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers would spread the batch over ranks, or copy the model to every card."""
    monkeypatch.setattr("services.trainer.training.place.visible_cards", lambda: ["4", "7"])
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    assert take_place(Meeting(tmp_path)) == Place(1, 2, tmp_path / "ranks")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "7"
    assert not {"RANK", "LOCAL_RANK", "WORLD_SIZE"} & set(os.environ)


def test_a_worker_that_no_launcher_started_is_alone_and_sees_one_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a cluster left in the environment."""
    monkeypatch.setattr("services.trainer.training.place.visible_cards", lambda: ["0", "1"])
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    monkeypatch.setenv("WORLD_SIZE", "16")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert take_place(Meeting(tmp_path)) == ALONE
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"
    assert "WORLD_SIZE" not in os.environ
