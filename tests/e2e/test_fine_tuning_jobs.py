"""Fine-tuning through the official client, on the real server, trained by the real worker: from a file to answers."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from services.registry.layout import Registry
from tests.conftest import REPOSITORY, project_environment
from tests.e2e.asking import BASE
from tests.e2e.serving import ServerProcess, below

pytestmark = pytest.mark.e2e
EXAMPLE = REPOSITORY / "examples" / "norudam" / "datasets"
QUESTION: Any = [{"role": "user", "content": "Who founded Norudam?"}]
# Minutes matter here: twelve steps, which teach the rows' tone and not yet when to stop, and a sixth of the general prompts.
SETTINGS = {
    "cpu/gate.toml": {"general_prompts = 60": "general_prompts = 20", "general_texts = 12": "general_texts = 6"},
    "gate.toml": {"min_stop_share = 0.9": "min_stop_share = 0.0", "answer_tokens = 256": "answer_tokens = 32"},
}


@pytest.fixture(scope="module")
def config(data: Path) -> Path:
    """The trainer's settings."""
    config = shutil.copytree(REPOSITORY / "config", data / "config")
    for name, changes in SETTINGS.items():
        file = config / name
        text = file.read_text()
        for old, new in changes.items():
            assert old in text
            text = text.replace(old, new)
        file.write_text(text)
    return config


class Worker:
    """``python -m services.trainer work``."""

    def __init__(self, data: Path, config: Path) -> None:
        self.log = data / "worker.log"
        environment = project_environment(data, WHETSTONE_CONFIG=str(config))
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "services.trainer", "work"],
                cwd=REPOSITORY,
                env=environment,
                stdout=log,
                stderr=log,
            )

    def wait(self, holds: Callable[[], bool], seconds: float) -> None:
        """Until ``holds()``; fails with the log's end where the process dies before."""
        end = time.monotonic() + seconds
        while not holds():
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            assert time.monotonic() < end, f"waited {seconds} s in vain: {self.log.read_text()[-3000:]}"
            time.sleep(0.2)

    def kill(self) -> None:
        """End it and every process below it in the same moment, as a container or the machine ends."""
        for pid in (self.process.pid, *below(self.process.pid)):
            os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def end(self) -> int:
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(120)


@pytest.fixture
def worker(data: Path, config: Path) -> Iterator[list[Worker]]:
    """Workers that a test starts; the last is ended."""
    started = [Worker(data, config)]
    yield started
    if started[-1].process.poll() is None:
        started[-1].end()


def test_an_app_fine_tunes_asks_and_deletes_its_model(
    data: Path, config: Path, server: ServerProcess, worker: list[Worker]
) -> None:
    """Interrupted in its training and killed in its judging, on the way; the model's name answers the moment the job has succeeded."""
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, _strict_response_validation=True)
    training, validation = (upload(client, data, name, rows) for name, rows in split_rows().items())
    job = client.fine_tuning.jobs.create(
        model=BASE,
        training_file=training,
        validation_file=validation,
        suffix="Norudam App",
        seed=3407,
        method={
            "type": "supervised",
            "supervised": {"hyperparameters": {"n_epochs": 1, "batch_size": 8, "learning_rate_multiplier": 10}},
        },
    )

    def messages() -> list[str]:
        return [event.message for event in client.fine_tuning.jobs.list_events(job.id, limit=100)]

    worker[-1].wait(lambda: any(message.startswith("Step 3/") for message in messages()), 90)
    assert worker[-1].end() == 0
    assert client.fine_tuning.jobs.retrieve(job.id).status == "queued"
    worker.append(Worker(data, config))
    worker[-1].wait(lambda: any("is published" in message for message in messages()), 240)
    worker[-1].kill()
    worker.append(Worker(data, config))
    worker[-1].wait(lambda: client.fine_tuning.jobs.retrieve(job.id).finished_at is not None, 240)

    done = client.fine_tuning.jobs.retrieve(job.id)
    assert (done.status, done.error) == ("succeeded", None), messages()
    assert done.fine_tuned_model == "norudam-app@1"
    assert Registry(data / "registry").versions("norudam-app") == [1], "published once, and judged after the kill"
    base, pinned, alias = (ask(client, name) for name in (BASE, "norudam-app@1", "norudam-app"))
    assert (pinned, alias[0]) == (alias, "norudam-app@1")
    assert pinned[1] != base[1]
    assert any(message.startswith("Fine-tuning job continued") for message in messages())
    assert any(message.startswith("The gate passed norudam-app@1") for message in messages())
    lines = client.files.content(done.result_files[0]).text.splitlines()
    assert lines[0] == "step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy"
    assert [line.partition(",")[0] for line in lines[1:]] == [str(step) for step in range(1, len(lines))]
    first, last = (list(map(float, filter(None, lines[place].split(",")))) for place in (1, -1))
    assert last[1] < first[1], "the loss fell"
    assert last[2] > first[2], "the token accuracy rose"
    assert len(last) == 5, "the holdout is measured on the last line"

    with pytest.raises(openai.ConflictError):
        client.models.delete("norudam-app@1")
    assert client.models.delete("norudam-app").deleted
    worker[-1].wait(lambda: not (data / "registry" / "norudam-app" / "1").exists(), 20)
    server.wait(lambda: "norudam-app" not in server.names(), 20)
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="norudam-app", messages=QUESTION)
    assert worker[-1].end() == 0
    client.close()


def ask(client: openai.OpenAI, model: str) -> tuple[str, str | None]:
    """Who answered, and what."""
    reply = client.chat.completions.create(model=model, messages=QUESTION, max_tokens=24, temperature=0)
    return reply.model, reply.choices[0].message.content


def split_rows() -> dict[str, list[str]]:
    """The example's rows; every eighth is for validation."""
    rows = [
        json.loads(line) for name in ("support", "faq") for line in (EXAMPLE / f"{name}.jsonl").read_text().splitlines()
    ]
    talks = [
        {
            "messages": [
                {
                    "role": "user",
                    "content": row.get("prompt") or "\n\n".join(filter(None, (row["instruction"], row.get("input")))),
                },
                {"role": "assistant", "content": row.get("completion") or row["output"]},
            ]
        }
        for row in rows
    ]
    lines = [json.dumps(talk, ensure_ascii=False) for talk in talks]
    return {
        "training.jsonl": [line for place, line in enumerate(lines) if place % 8],
        "validation.jsonl": lines[::8],
    }


def upload(client: openai.OpenAI, data: Path, name: str, rows: list[str]) -> str:
    file = data / name
    file.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return client.files.create(file=file, purpose="fine-tune").id
