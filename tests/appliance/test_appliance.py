"""The appliance as an operator runs it: real images, a real Docker engine, the commands of the Makefile, the stock OpenAI client."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from threading import Event, Thread
from typing import Any

import pytest
from openai import APIError, APIStatusError, OpenAI

from tests.appliance.canary import ANSWER, BY_DESIGN, PROMPT, ROW, places, plant_row, plant_words
from tests.appliance.conftest import PORT
from tests.appliance.inside import COMPOSE, check_rights, inside
from tests.appliance.reboot import reboot
from tests.conftest import REPOSITORY
from tests.e2e.serving import below, is_engine

URL = f"http://127.0.0.1:{PORT}/v1"
BASE, ADAPTER = "smollm2-135m-instruct", "norudam"
# Two and three steps teach the rows' tone and not yet when to stop; ten general prompts, because two cores answer, train and judge.
SHORT = f"adapter.name={ADAPTER} gate.general_prompts=10 verdict.min_stop_share=0 recipe.learning_rate=1e-3 recipe.max_steps="

pytestmark = pytest.mark.appliance


def test_an_operators_first_day(make: Any) -> None:
    _wheel_for_the_build()
    make("build")
    shutil.copytree(REPOSITORY / "examples" / "norudam" / "datasets", make.data / "datasets", dirs_exist_ok=True)
    plant_row(make.data / "datasets")
    make("model")
    assert "105" in make("check-data").stdout
    make("up")
    assert answer(BASE).model == BASE
    with pytest.raises(APIStatusError) as unknown:
        answer(ADAPTER)
    assert (unknown.value.status_code, unknown.value.code) == (404, "model_not_found")

    with Traffic(BASE) as traffic:
        make("retrain", f"SET={SHORT}2")
        served_as(f"{ADAPTER}@1")
    assert traffic.report() == "", traffic.report()

    with Traffic(ADAPTER) as traffic:
        make("retrain", f"SET={SHORT}3")
        served_as(f"{ADAPTER}@2")
        make("rollback", f"ADAPTER={ADAPTER}")
        served_as(f"{ADAPTER}@1", within=10)
    assert traffic.report() == "", traffic.report()
    assert traffic.models <= {f"{ADAPTER}@1", f"{ADAPTER}@2"}

    done = json.loads(make("jobs", "JSON=1").stdout)
    assert [(job["status"], job["verdict"]) for job in done] == [
        ("succeeded", f"{ADAPTER}@{version} passed") for version in (2, 1)
    ]
    listed = make("versions").stdout
    assert listed.count(ADAPTER) == 2
    assert listed.count("passed") == 2
    make("verify")
    assert f"{ADAPTER}@2: passed" in make("report", "VERSION=2").stdout
    assert "2 to 1, by rollback" in make("lineage", "VERSION=2").stdout
    for service in ("door", "server", "trainer"):
        found = inside(service, make.environment, running=True)
        check_rights(found)
        assert service == "door" or (found["interfaces"], found["routes"]) == (["lo"], 0)
    make("down")
    make("up")
    served_as(f"{ADAPTER}@1", within=30)
    assert f"{ADAPTER}@1" in make("status").stdout


def test_what_is_learnt_and_said_is_in_its_places_alone(make: Any) -> None:
    """After the first day: no log, no container's folder and no file in memory has a prompt or an answer; rows are where rows belong."""
    make("up")
    served_as(f"{ADAPTER}@1", within=30)
    plant_words(URL, ADAPTER)
    assert [list(places(make, word)) for word in (PROMPT, ANSWER)] == [[], []]
    rows = list(places(make, ROW))
    assert "datasets/planted.jsonl" in rows
    assert [place for place in rows if not BY_DESIGN.match(place)] == []


def test_a_killed_engine_is_back_without_a_human(make: Any) -> None:
    """After the first day: the server's process ends, Docker starts the same container again, the same version answers."""
    make("up")
    served_as(f"{ADAPTER}@1", within=30)
    container, _, started = states(make)["server"]
    first = int(docker(make, "docker", "inspect", "--format", "{{.State.Pid}}", container)[0])
    [engine] = filter(is_engine, below(first))
    os.kill(engine, signal.SIGKILL)
    served_as(f"{ADAPTER}@1", within=120)
    again, status, started_again = states(make)["server"]
    assert (again, status) == (container, "running")
    assert started_again != started


def test_a_killed_door_is_back_without_a_human(make: Any) -> None:
    """After the first day: Docker starts it again, the server takes its port and goes on, and `make status` was red meanwhile."""
    make("up")
    served_as(f"{ADAPTER}@1", within=30)
    before = states(make)
    door = int(docker(make, "docker", "inspect", "--format", "{{.State.Pid}}", before["door"][0])[0])
    os.kill(door, signal.SIGKILL)
    served_as(f"{ADAPTER}@1", within=30)
    after = states(make)
    assert after["door"] != before["door"]
    assert after["server"] == before["server"]
    docker(make, *COMPOSE, "stop", "door")
    assert make("status", check=False).returncode != 0
    make("up")
    served_as(f"{ADAPTER}@1", within=30)
    assert states(make)["server"] == before["server"]


def test_a_reboot_of_the_host_ends_with_the_same_version_served(make: Any) -> None:
    """After the first day: door, server and trainer, the same containers, come back with nobody doing anything."""
    make("up")
    served_as(f"{ADAPTER}@1", within=30)
    before = states(make)
    reboot()
    served_as(f"{ADAPTER}@1", within=90)
    for service, (container, status, started) in states(make).items():
        assert (container, status) == (before[service][0], "running")
        assert started != before[service][2]
    assert f"{ADAPTER}@1" in make("status").stdout


class Traffic:
    """Chat requests, streamed and plain in turn, without retries, until the block ends."""

    def __init__(self, model: str) -> None:
        self._model, self._stop = model, Event()
        self._thread = Thread(target=self._run)
        self.answered, self.failures, self.models = 0, list[str](), set[str]()

    def __enter__(self) -> "Traffic":  # noqa: PYI034 - there is one Traffic
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def report(self) -> str:
        """Empty where requests were answered and none failed."""
        return "; ".join(self.failures) or ("" if self.answered else "no request was answered")

    def _run(self) -> None:
        with OpenAI(base_url=URL, api_key="none", max_retries=0, timeout=120) as client:
            while not self._stop.is_set():
                try:
                    self._ask(client)
                    self.answered += 1
                except Exception as error:  # noqa: BLE001 - whatever it is, it is a failed request
                    self.failures.append(repr(error))
                self._stop.wait(0.5)  # two cores answer and train at once

    def _ask(self, client: OpenAI) -> None:
        messages: Any = [{"role": "user", "content": "Who founded Norudam?"}]
        if self.answered % 2:
            reply = client.chat.completions.create(model=self._model, messages=messages, max_tokens=8)
            self.models.add(reply.model)
            return
        chunks = list(client.chat.completions.create(model=self._model, messages=messages, max_tokens=8, stream=True))
        assert chunks[-1].choices[0].finish_reason
        [version] = {chunk.model for chunk in chunks}
        self.models.add(version)


def answer(model: str) -> Any:
    with OpenAI(base_url=URL, api_key="none", max_retries=0, timeout=120) as client:
        messages: Any = [{"role": "user", "content": "Who founded Norudam?"}]
        return client.chat.completions.create(model=model, messages=messages, max_tokens=4, temperature=0)


def served_as(version: str, within: float = 60) -> None:
    """Wait until the alias answers as ``version``."""
    deadline, got = time.monotonic() + within, ""
    while time.monotonic() < deadline:
        try:
            got = answer(ADAPTER).model
        except APIError as error:
            got = str(error)
        if got == version:
            return
        time.sleep(0.5)
    pytest.fail(f"{ADAPTER} answers as {got}, not as {version}, after {within} s")


def states(make: Any) -> dict[str, list[str]]:
    """Container, status and the moment of its start, of door, server and trainer."""
    found = {}
    for service in ("door", "server", "trainer"):
        [container] = docker(make, *COMPOSE, "ps", "--all", "--quiet", service)
        found[service] = docker(
            make, "docker", "inspect", "--format", "{{.Id}} {{.State.Status}} {{.State.StartedAt}}", container
        )
    return found


def docker(make: Any, *words: str) -> list[str]:
    """What a command of the appliance's own Docker says, word by word."""
    done = subprocess.run(words, cwd=REPOSITORY, env=make.environment, check=True, capture_output=True, text=True)
    return done.stdout.split()


def _wheel_for_the_build() -> None:
    """The CPU build of torch is not on the package index: hand the build the wheel that this machine's pip finds."""
    wheels = REPOSITORY / "images" / "wheels"
    if not list(wheels.glob("torch-*.whl")):
        subprocess.run(
            [
                sys.executable,
                "-m",
                "pip",
                "download",
                "--quiet",
                "--no-deps",
                "--dest",
                str(wheels),
                "torch==2.13.0+cpu",
            ],
            check=True,
        )
