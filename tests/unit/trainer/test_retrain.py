"""A retrain from rows to pointer with a worker that only writes files: what is kept, continued, refused."""

import io
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from services.base_model.identity import BaseModelSettings, BaseSettings
from services.base_model.install import install
from services.common.paths import DataPaths
from services.common.settings import load
from services.registry.errors import RegistryBusy
from services.registry.layout import Registry
from services.registry.lock import exclusive
from services.registry.manifest import ProbePrompt, read_manifest
from services.registry.pointer import read_pointer
from services.trainer.checkpoints import newest_whole, seal
from services.trainer.retrain import Outcome, retrain
from services.trainer.settings import TrainingSettings
from services.trainer.training.job import Checkpoint, Event, Finished, Interrupted, Step, TrainingFailed, TrainingJob
from tests.support.adapters import safetensors, write_adapter
from tests.support.tokenizers import save_base

CONFIG = Path(__file__).resolve().parents[3] / "config"


class TinyBase:
    """Fills a base model's folder with a tokenizer made in code and one small tensor."""

    def fill(self, folder: Path, settings: BaseModelSettings) -> str:
        save_base(folder)
        (folder / "model.safetensors").write_bytes(safetensors({"weight": (2, 2)}))
        return settings.package


class FakeWorker:
    """Takes ``steps`` steps and writes an adapter; ``stop_at`` saves a checkpoint there and ends, as after SIGTERM."""

    def __init__(
        self, *, stop_at: int | None = None, fail: str | None = None, before: Callable[[], None] | None = None
    ) -> None:
        self.jobs: list[TrainingJob] = []
        self._stop_at, self._fail, self._before = stop_at, fail, before

    def __call__(self, job: TrainingJob, _folder: Path, on_event: Callable[[Event], None]) -> Finished | Interrupted:
        self.jobs.append(job)
        if self._before:
            self._before()
        if self._fail:
            raise TrainingFailed(self._fail)
        first = int(job.resume_from.name.rpartition("-")[2]) + 1 if job.resume_from else 1
        for step in range(first, 5):
            on_event(
                Step(
                    step=step,
                    of=4,
                    loss=1.0 / step,
                    learning_rate=1e-4,
                    grad_norm=1.0,
                    tokens=100 * step,
                    seconds=float(step),
                )
            )
            checkpoint = job.checkpoints_folder / f"checkpoint-{step}"
            checkpoint.mkdir()
            (checkpoint / "state").write_text(str(step))
            seal(checkpoint)
            on_event(Checkpoint(step=step, folder=checkpoint.name))
            if step == self._stop_at:
                return Interrupted(step=step)
        job.adapter_folder.mkdir()
        write_adapter(job.adapter_folder, rank=job.lora.rank, lora_alpha=job.lora.alpha, auto_mapping={"x": "y"})
        return Finished(
            steps=4, train_loss=0.5, holdout_loss=None, update_norm=1.0, tokens=400, seconds=4.0, backend="fake"
        )


def fake_probe(*_: object) -> list[ProbePrompt]:
    return [ProbePrompt(token_ids=[1, 2], base_logprobs=[-1.0], adapter_logprobs=[-0.5])]


class House:
    """A data root with a base model and rows, and a way to retrain on them."""

    def __init__(self, root: Path, base: BaseSettings) -> None:
        self.paths, self.base = DataPaths(root), base
        self.registry = Registry(self.paths.registry)
        self.paths.datasets.mkdir(parents=True)
        self.write_rows(20)

    def write_rows(self, count: int) -> None:
        rows = ({"prompt": f"question {index}", "completion": f"answer {index}"} for index in range(count))
        (self.paths.datasets / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))

    def retrain(self, worker: FakeWorker, overrides: Sequence[str] = ()) -> tuple[Outcome, str]:
        console = Console(record=True, width=200, file=io.StringIO())
        settings = load("training", TrainingSettings, ["adapter.name=acme", *overrides], folder=CONFIG)
        outcome = retrain(settings, self.base, self.paths, worker=worker, console=console, prober=fake_probe)
        return outcome, console.export_text()


@pytest.fixture
def house(tmp_path: Path) -> House:
    base = BaseModelSettings(name="tiny-base", package="tiny")
    install(tmp_path / "models", base, TinyBase())
    return House(tmp_path, BaseSettings(base_model=base))


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
    ]


def test_no_row_of_the_data_is_in_the_registry(house: House) -> None:
    house.write_rows(20)
    (house.paths.datasets / "b.jsonl").write_text('{"prompt": "Geheimnis-4711", "completion": "Geheimnis-4712"}')
    house.retrain(FakeWorker())
    published = b"".join(file.read_bytes() for file in house.registry.folder("acme", 1).iterdir())
    assert b"Geheimnis" not in published


def test_an_interrupted_run_is_continued_from_its_checkpoint(house: House) -> None:
    outcome, _ = house.retrain(FakeWorker(stop_at=2))
    assert outcome.version is None
    assert house.registry.versions("acme") == []
    second = FakeWorker()
    finished, said = house.retrain(second)
    assert (finished.run, finished.version) == (outcome.run, "acme@1")
    assert second.jobs[0].resume_from is not None
    assert second.jobs[0].resume_from.name == "checkpoint-2"
    assert f"continuing run {outcome.run}" in said
    events = map(json.loads, (house.paths.runs / finished.run / "events.jsonl").read_text().splitlines())
    steps = [event["step"] for event in events if event["type"] == "step"]
    assert steps == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "state").write_text("9"),
        lambda folder: (folder / "state").unlink(),
        lambda folder: (folder / "complete.json").unlink(),
        lambda folder: (folder / "complete.json").write_text("{"),
    ],
    ids=["changed", "missing", "never finished", "seal cut"],
)
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(house: House, damage: Callable[[Path], object]) -> None:
    outcome, _ = house.retrain(FakeWorker(stop_at=3))
    damage(house.paths.runs / outcome.run / "checkpoints" / "checkpoint-3")
    found = newest_whole(house.paths.runs / outcome.run / "checkpoints")
    assert found is not None
    assert found.name == "checkpoint-2"
    shutil.rmtree(house.paths.runs / outcome.run / "checkpoints" / "checkpoint-3")
    second = FakeWorker()
    house.retrain(second)
    assert second.jobs[0].resume_from == found


@pytest.mark.parametrize(("change", "named"), [("recipe", "recipe changed"), ("data", "data changed")])
def test_a_changed_recipe_or_changed_rows_begin_a_fresh_run_and_say_so(house: House, change: str, named: str) -> None:
    first, _ = house.retrain(FakeWorker(stop_at=2))
    if change == "data":
        house.write_rows(21)
    second = FakeWorker()
    outcome, said = house.retrain(second, ["recipe.seed=7"] if change == "recipe" else [])
    assert outcome.run != first.run
    assert second.jobs[0].resume_from is None
    assert f"from the start: {named} since run {first.run} was interrupted" in said


def test_a_failed_run_publishes_nothing_and_the_old_version_serves_on(house: House) -> None:
    house.retrain(FakeWorker())
    house.write_rows(30)
    with pytest.raises(TrainingFailed, match="the card's memory is full"):
        house.retrain(FakeWorker(fail="the card's memory is full"))
    pointer = read_pointer(house.registry, "acme")
    assert pointer is not None
    assert (pointer.version, house.registry.versions("acme")) == (1, [1])


def test_a_second_retrain_ends_at_once_and_says_who_holds_the_lock(house: House) -> None:
    house.paths.runs.mkdir(parents=True)
    with (
        exclusive(house.paths.runs / ".lock", "retrain"),
        pytest.raises(RegistryBusy, match="held by: retrain, process"),
    ):
        house.retrain(FakeWorker())


def test_rows_that_change_while_training_do_not_change_the_run(house: House) -> None:
    worker = FakeWorker(before=lambda: house.write_rows(3))
    outcome, _ = house.retrain(worker)
    kept = (house.paths.runs / outcome.run / "snapshot" / "a.jsonl").read_text()
    assert len(kept.splitlines()) == 20


def test_identical_runs_are_told_apart_by_their_results_only(house: House) -> None:
    house.retrain(FakeWorker())
    second, _ = house.retrain(FakeWorker())
    first_manifest, second_manifest = (read_manifest(house.registry.folder("acme", version)) for version in (1, 2))
    assert second.version == "acme@2"
    assert second_manifest.parent == 1
    assert msgspec.structs.asdict(first_manifest)["dataset"] == msgspec.structs.asdict(second_manifest)["dataset"]


def test_old_runs_go_and_with_them_the_copies_of_the_rows(house: House) -> None:
    for count in range(20, 27):
        house.write_rows(count)
        house.retrain(FakeWorker())
    assert len([folder for folder in house.paths.runs.iterdir() if folder.is_dir()]) == 5
