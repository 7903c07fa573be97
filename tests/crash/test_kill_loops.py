"""SIGKILL of real processes at every place that the services name, then a start as any other: nothing mixed, nothing lost, nothing left.

A hundred kills in the fast tier; ``make crash-test`` has more than a thousand.
"""

import random
import re
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from services.base_model.install import install
from services.common.paths import DataPaths
from services.registry.check import verify_version
from services.registry.history import read_history
from services.registry.layout import ADAPTER_WEIGHTS, Registry
from services.registry.manifest import ProbePrompt, read_manifest
from services.registry.pointer import promote, read_pointer
from services.trainer.work.desk import Desk
from tests.conftest import REPOSITORY
from tests.crash.lives import ADAPTER, BASE, KEEP, Lives
from tests.unit.server.harness import publish_version
from tests.unit.trainer.house import TinyBase
from tests.unit.trainer.tiny import TinySource

LONG = settings.get_profile("long").max_examples
OF_JOBS = ("queue", "file", "run", "replace", "publish", "pointer", "history", "deletion", "retrain")
OF_TRAINING = ("training", "replace")
OF_LOADING = ("loading",)
# Written down, for of a place that went from the sources nothing else would tell.
PLACES = {
    "queue": ("before a commit", "after a commit"),
    "file": ("sealed", "in place", "forgotten"),
    "run": ("copied", "named"),
    "replace": ("written", "in place"),
    "training": ("updated", "saved", "sealed", "adapter written"),
    "publish": ("staged", "file synced", "manifest written", "renamed", "synced"),
    "pointer": ("moved",),
    "history": ("written",),
    "deletion": ("out of sight", "done"),
    "retrain": ("published", "judged"),
    "loading": ("checked", "loaded", "probed", "in service"),
}


@pytest.fixture
def lives(record_property: Callable[[str, object], None]) -> Iterator[Lives]:
    with Lives() as lives:
        yield lives
    record_property("kills", sum(lives.places.values()))
    record_property("places", len(lives.places))


def named(*kinds: str) -> set[str]:
    """The places of these kinds."""
    return {f"{kind}: {place}" for kind in kinds for place in PLACES[kind]}


def test_every_place_is_of_one_of_the_loops() -> None:
    """A step that loses its place, or a new one, is one that no loop kills at any more, or yet."""
    sources = (file.read_text() for file in (REPOSITORY / "services").rglob("*.py"))
    places = [place for source in sources for place in re.findall(r'\bpassing\("([^"]+)"\)', source)]
    assert sorted(places) == sorted(named(*PLACES))
    assert {*OF_JOBS, *OF_TRAINING, *OF_LOADING} == {*PLACES}


def test_jobs_survive_kills_at_every_step(lives: Lives, tmp_path: Path) -> None:
    """From the upload to the version in service: each job makes one version, whole, in service, and its number is the next."""
    install(tmp_path / "models", BASE.base_model, TinyBase())
    pick, kills = random.Random(1), max(100, settings().max_examples // 2)  # noqa: S311 - repeatable
    job, step = 1, 1
    while sum(lives.places.values()) < kills or step:
        mark = f"job-{job}"
        came_to_its_end = lives.live("work", tmp_path, mark, f":{step or pick.randint(1, 60)}")
        nothing_is_mixed(tmp_path)
        if came_to_its_end:
            step = 0  # every step had its kill; from now on at random, and often within what mends the kill before
        elif pick.random() < 0.5 and not lives.live("work", tmp_path, mark, f":{pick.randint(1, 40)}"):
            nothing_is_mixed(tmp_path)
        step += bool(step)
        assert lives.live("work", tmp_path, mark)
        done(tmp_path, job)
        job += 1
    assert lives.live("work", tmp_path, f"job-{job}")
    done(tmp_path, job)
    nothing_is_left(tmp_path)
    assert set(lives.places) == named(*OF_JOBS)


def nothing_is_mixed(root: Path) -> None:
    """Every version is whole, and the pointer names one that is there."""
    registry = Registry(DataPaths(root).registry)
    versions = registry.versions(ADAPTER)
    for version in versions:
        verify_version(registry, ADAPTER, version)
    pointer = read_pointer(registry, ADAPTER)
    assert pointer is None or {pointer.version, pointer.previous or pointer.version} <= set(versions)


def done(root: Path, number: int) -> None:
    """The job of this number succeeded with the version of the same number, which serves; older ones went."""
    nothing_is_mixed(root)
    paths = DataPaths(root)
    registry, desk = Registry(paths.registry), Desk(paths)
    [job] = [job for job in desk.queue.list(limit=3).data if job.asked.idempotency_key == f"job-{number}"]
    assert (job.status, job.fine_tuned_model) == ("succeeded", f"{ADAPTER}@{number}")
    pointer = read_pointer(registry, ADAPTER)
    assert pointer is not None
    assert pointer.version == number
    assert registry.versions(ADAPTER) == list(range(max(1, number - KEEP + 1), number + 1))
    moves = [move.version for move in read_history(registry, ADAPTER)]
    assert moves == sorted(set(moves)), "a line is missing where the kill came between move and line, never there twice"
    assert desk.queue.unfinished() == []


def nothing_is_left(root: Path) -> None:
    """No hidden file or folder but locks, and no content that no record names."""
    paths = DataPaths(root)
    desk = Desk(paths)
    hidden = [path for path in root.rglob(".*") if not path.name.endswith("lock")]
    assert hidden == []
    records = {file.id for file in desk.files.list().data}
    assert {file.name for file in paths.job_files.iterdir()} == records
    assert not desk.files.list(purpose="fine-tune").data


STEPS_OF_TRAINING = (
    "training: updated:2",
    "training: saved:2",
    "replace: written:2",
    "replace: in place:3",
    "training: sealed:1",
    "training: adapter written:1",
)


def test_training_survives_kills_at_every_step(lives: Lives, tmp_path: Path) -> None:
    """A job's run goes on from its newest whole checkpoint, and what is published is what nobody's kill led to, bit for bit, probe included."""
    whole = learnt(lives, tmp_path / "whole", "")
    steps = (f":{number}" for number in count(1)) if settings().max_examples >= LONG else STEPS_OF_TRAINING
    for number, step in enumerate(steps):
        if (published := learnt(lives, tmp_path / str(number), step)) is None:
            break
        assert published == whole, step
    assert set(lives.places) >= named(*OF_TRAINING)


def learnt(lives: Lives, root: Path, kill_at: str) -> tuple[bytes, list[ProbePrompt], dict[str, Any]] | None:
    """Weights, probe and metrics of the version that a job led to although it was killed there; None where it had ended before."""
    install(root / "models", BASE.base_model, TinySource())
    if kill_at and lives.live("learn", root, "job-1", kill_at):
        return None
    assert lives.live("learn", root, "job-1")
    done(root, 1)
    folder = Registry(DataPaths(root).registry).folder(ADAPTER, 1)
    manifest = read_manifest(folder)
    metrics = {name: value for name, value in manifest.metrics.items() if name not in {"seconds", "run"}}
    return (folder / ADAPTER_WEIGHTS).read_bytes(), manifest.probe, metrics


def test_loading_survives_kills_at_every_step(lives: Lives, tmp_path: Path) -> None:
    """A server killed at any step of its start is, at the next, ready with the same version."""
    registry = Registry(DataPaths(tmp_path).registry)
    for version in (1, 2):
        publish_version(registry, ADAPTER)
        promote(registry, ADAPTER, version)
    step = 1
    while not lives.live("serve", tmp_path, f"{ADAPTER}@2", f"loading:{step}"):
        assert lives.live("serve", tmp_path, f"{ADAPTER}@2")
        step += 1
    assert set(lives.places) == named(*OF_LOADING)
