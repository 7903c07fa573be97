"""Real training of the real model on a CPU: interrupted, continued, published, and loaded back by plain PEFT."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import msgspec
import pytest

from services.registry.check import verify_version
from services.registry.layout import Registry
from services.registry.pointer import read_pointer
from services.trainer.probe import probe_change
from services.trainer.training.job import Scored, ScoreJob
from services.trainer.training.meeting import Meeting
from tests.conftest import REPOSITORY, project_environment
from tests.support.nowhere import Nowhere

pytestmark = pytest.mark.e2e
WORDS = [
    "--json",
    *("--set", "adapter.name=norudam"),
    *("--set", "recipe.max_steps=4"),
    *("--set", "recipe.rows_per_step=2"),
    *("--set", "recipe.rows_per_pass=2"),
    *("--set", "recipe.learning_rate=1e-3"),
    *("--set", "recipe.warmup_steps=0"),
    *("--set", "checkpoints.every_steps=1"),
]
EXIT_BUSY, EXIT_INTERRUPTED, EXIT_NOT_JUDGED = 4, 5, 7


@pytest.fixture(scope="module")
def data(base_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with the real base model and the example's rows."""
    root = tmp_path_factory.mktemp("data")
    (root / "models").mkdir()
    shutil.copytree(base_model_dir, root / "models" / base_model_dir.name, copy_function=shutil.copy)
    shutil.copytree(REPOSITORY / "examples" / "norudam" / "datasets", root / "datasets")
    return root


def start(data: Path, inside: Sequence[str] = ()) -> "subprocess.Popen[str]":
    command = [*inside, sys.executable, "-m", "services.trainer", "retrain", *WORDS]
    environment = project_environment(data)
    return subprocess.Popen(
        command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def runs(data: Path) -> list[str]:
    return sorted(folder.name for folder in data.glob("runs/[!.]*"))


def events(data: Path, run: int) -> list[dict[str, Any]]:
    """What a run did, by its place among all of them."""
    file = data / "runs" / runs(data)[run] / "events.jsonl" if len(runs(data)) > run else None
    return [json.loads(line) for line in file.read_text().splitlines()] if file is not None and file.exists() else []


def wait_for(data: Path, run: int, process: "subprocess.Popen[str]", what: dict[str, Any]) -> None:
    """Wait until a run's events hold one with all of ``what``."""
    deadline = time.monotonic() + 240
    while not any(what.items() <= event.items() for event in events(data, run)):
        assert process.poll() is None, process.communicate()[1][-3000:]
        assert time.monotonic() < deadline, f"no {what} within four minutes"
        time.sleep(0.05)


@pytest.fixture
def nowhere() -> Iterator[Nowhere]:
    """A network in which whoever calls out waits in vain."""
    with Nowhere() as nowhere:
        yield nowhere


def stopped(data: Path, run: int) -> tuple[str, list[int]]:
    """Begin a retrain, and end it by SIGTERM in its first step: what it said, and the steps of its checkpoints."""
    process = start(data)
    wait_for(data, run, process, {"type": "loading", "what": "first step"})  # the worker listens, and four are to come
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=120)
    assert process.returncode == EXIT_INTERRUPTED, said
    saved = [event["step"] for event in events(data, run) if event["type"] == "checkpoint"]
    assert saved, "a checkpoint of the step that was under way"
    return said, saved


def test_a_run_that_is_stopped_is_continued_published_and_loads_back(data: Path, nowhere: Nowhere) -> None:
    """Where nothing that is sent out arrives, nothing is, beside a checkpoint that came to harm, and after other rows, which begin afresh."""
    _, saved = stopped(data, 0)
    registry = Registry(data / "registry")
    assert registry.versions("norudam") == []
    [whole] = data.glob(f"runs/*/checkpoints/checkpoint-{saved[-1]}")
    damaged = whole.with_name(f"checkpoint-{saved[-1] + 1}")
    shutil.copytree(whole, damaged)
    flip_a_bit(damaged / "adapter_model.safetensors")

    added = data / "datasets" / "added.jsonl"
    added.write_text(json.dumps({"prompt": "Who feeds the cat of Norudam?", "completion": "Whoever comes first."}))
    said, _ = stopped(data, 1)
    unbroken = " ".join(said.split())  # the console breaks lines
    assert f"from the start: data changed since run {runs(data)[0]} was interrupted" in unbroken
    assert "checkpoint-" not in said
    assert next(event["step"] for event in events(data, 1) if event["type"] == "step") == 1
    added.unlink()

    again = start(data, nowhere.prefix)
    wait_for(data, 0, again, {"type": "step", "step": 4})
    busy = start(data)  # the holdout, the files and the probe are yet to come: ten seconds and more, and this takes one
    _, said = busy.communicate(timeout=120)
    assert busy.returncode == EXIT_BUSY, said
    assert f"process {again.pid}" in said
    printed, said = again.communicate(timeout=400)
    assert again.returncode == EXIT_NOT_JUDGED, said
    assert f"continuing run {runs(data)[0]}" in said
    told = [line for line in said.splitlines() if "adapter_model.safetensors is damaged" in line]
    assert len(told) == 1
    assert damaged.name in told[0]
    assert f"continuing from checkpoint-{saved[-1]}" in said
    outcome = json.loads(printed)
    assert (outcome["version"], outcome["steps"]) == ("norudam@1", 4)
    steps = [event for event in events(data, 0) if event["type"] == "step"]
    assert [step["step"] for step in steps] == [1, 2, 3, 4], "every step once: nothing lost, nothing done again"
    assert all(isinstance(step["grad_norm"], float) and step["grad_norm"] > 0 for step in steps)
    assert outcome["train_loss"] == pytest.approx(mean(step["loss"] for step in steps)), "of the whole run"
    for counted in ("tokens", "seconds"):
        assert [step[counted] for step in steps] == sorted(step[counted] for step in steps)

    assert nowhere.sent() == []
    assert outcome["passed"] is None
    assert "no server answers" in outcome["reasons"][0]
    assert read_pointer(registry, "norudam") is None, "nobody judged it, so nobody gets it"
    manifest = verify_version(registry, "norudam", 1)
    assert manifest.metrics["tokens"] == steps[-1]["tokens"]
    assert probe_change(manifest.probe) > 0.001
    assert loaded_again(data) == [(prompt.base_logprobs, prompt.adapter_logprobs) for prompt in manifest.probe]


def flip_a_bit(file: Path) -> None:
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 0x10
    file.write_bytes(raw)


def loaded_again(data: Path) -> list[tuple[Any, Any]]:
    """Score the manifest's probe in a fresh process that loads the published files by plain PEFT."""
    manifest = verify_version(Registry(data / "registry"), "norudam", 1)
    base_folder, meeting, output = data / "models" / "smollm2-135m-instruct", Meeting(data), data / "scores.json"
    ends = meeting.listen()
    meeting.tell(
        ScoreJob(
            base_folder=base_folder,
            adapter_folder=data / "registry" / "norudam" / "1",
            prompts=[prompt.token_ids for prompt in manifest.probe],
            output=output,
        ),
    )
    command = [sys.executable, "-m", "services.trainer.training.score", str(data), str(base_folder)]
    subprocess.run(command, cwd=REPOSITORY, env=project_environment(data), check=True)
    for end in ends:
        os.close(end)
    return [
        (pytest.approx(base, abs=1e-4), pytest.approx(adapter, abs=1e-4))
        for base, adapter in msgspec.json.decode(output.read_bytes(), type=Scored).pairs
    ]
