"""The appliance as an operator runs it: real images, a real Docker engine, the commands of the Makefile, the stock OpenAI client."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from openai import APIStatusError

from tests.appliance.apps import (
    ADAPTER,
    BASE,
    URL,
    Traffic,
    answer,
    is_broken_off,
    is_told,
    refused,
    served_as,
    wait_for,
)
from tests.appliance.canary import ANSWER, BY_DESIGN, PROMPT, ROW, places, plant_row, plant_words
from tests.appliance.conftest import firewall
from tests.appliance.inside import COMPOSE, check_rights, inside
from tests.appliance.reboot import reboot
from tests.conftest import REPOSITORY
from tests.e2e.serving import alive, below, is_engine

# Two and three steps teach the rows' tone and not yet when to stop; few questions and short answers, because two cores answer, train and judge.
ASKED = "gate.general_prompts=4 gate.general_texts=4 gate.answer_tokens=8 verdict.min_stop_share=0 verdict.max_general_drop=1"
SHORT = f"adapter.name={ADAPTER} {ASKED} recipe.learning_rate=1e-3 recipe.max_steps="
FAILS = f"adapter.name={ADAPTER} recipe.learning_rate=1e30 recipe.rows_per_step=2 recipe.max_steps=4"  # the loss is soon no number

pytestmark = pytest.mark.appliance


def test_an_operators_first_day(make: Any) -> None:
    _wheel_for_the_build()
    make("build")
    moved = make("build", "WHETSTONE_PYTHON_IMAGE=whetstone-server:cpu", check=False)
    assert moved.returncode != 0
    assert "base-image.lock says sha256:" in moved.stderr
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
        failed = make("retrain", f"SET={FAILS}", check=False)
        assert failed.returncode != 0
        assert traffic.models == {f"{ADAPTER}@1"}
        make("retrain", f"SET={SHORT}3")
        served_as(f"{ADAPTER}@2")
        make("rollback", f"ADAPTER={ADAPTER}")
        served_as(f"{ADAPTER}@1", within=10)
    assert traffic.report() == "", traffic.report()
    assert traffic.models <= {f"{ADAPTER}@1", f"{ADAPTER}@2"}

    done = json.loads(make("jobs", "JSON=1").stdout)
    assert [(job["status"], job["verdict"]) for job in done] == [
        ("succeeded", f"{ADAPTER}@2 passed"),
        ("failed", "the loss became nan at step 3; lower recipe.learning_rate and check the rows"),
        ("succeeded", f"{ADAPTER}@1 passed"),
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


def engine_of(first: int) -> int:
    """The engine's core, of a container by its first process."""
    [engine] = filter(is_engine, below(first))
    return engine


def main_of(first: int) -> int:
    """The server's own process, the one child of Docker's init."""
    [file] = Path(f"/proc/{first}/task").glob("*/children")
    [main] = map(int, file.read_text().split())
    return main


KILLED = (*(engine_of,) * int(os.environ.get("WHETSTONE_ENGINE_KILLS", "1")), main_of)


def test_a_killed_engine_or_server_is_back_without_a_human(
    make: Any, record_property: Callable[[str, object], None]
) -> None:
    """After the first day: Docker starts the same container again, of the old processes none is left, the same version answers; OpenAI's
    SDK, asking all the time, is told of an engine's end by 503 and error events alone, and breaks off once with a server that was killed under
    it; every answer is whole."""
    make("up")
    served_as(f"{ADAPTER}@1", within=30)
    with Traffic(ADAPTER) as traffic:
        for doomed in KILLED:
            before = len(traffic.errors)
            container, _, started = states(make)["server"]
            first = int(docker(make, "docker", "inspect", "--format", "{{.State.Pid}}", container)[0])
            family = [first, *below(first)]
            os.kill(doomed(first), signal.SIGKILL)
            wait_for(partial(_started_after, make, started), 60)
            served_as(f"{ADAPTER}@1", within=120)
            assert states(make)["server"][:2] == [container, "running"]
            assert [pid for pid in family if alive(pid)] == []
            answered = traffic.answered
            wait_for(partial(traffic.has_answered, answered + 1), 30)
            untold = [error for error in traffic.errors[before:] if not is_told(error)]
            assert len(untold) <= (doomed is main_of), untold  # it asks one thing at a time
            assert all(map(is_broken_off, untold)), untold
    record_property("kills of the engine", KILLED.count(engine_of))
    record_property("answers", traffic.answered)
    record_property("told", sum(map(is_told, traffic.errors)))
    assert any(map(is_told, traffic.errors))
    assert traffic.models == {f"{ADAPTER}@1"}


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


def test_keys_count_and_end_within_a_second(make: Any) -> None:
    """After the first day: a key is shown once and is in no file, no other caller is answered any more, its tokens are in the usage, and a
    revoked one ends; all with the firewall's rule in force, past which clients come in."""
    make("up")
    served_as(f"{ADAPTER}@1", within=30)
    with firewall():
        shown = make("key", "NAME=app").stdout
        [key] = re.findall(r"ws-[\w-]{43}", shown)
        wait_for(lambda: refused("none"), 1)
        answers = [answer(BASE, key) for _ in range(3)]
        assert refused("none")
        time.sleep(1.5)  # usage is written once a second
        rows = list(csv.DictReader(make("usage").stdout.splitlines()))
        [row] = [row for row in rows if row["key"] == "app"]
        assert (row["model"], int(row["requests"])) == (BASE, len(answers))
        for kind in ("prompt_tokens", "completion_tokens"):
            assert int(row[kind]) == sum(getattr(one.usage, kind) for one in answers)
        listed = make("keys").stdout
        assert "app" in listed
        assert key not in listed
        assert list(places(make, key)) == []
        make("revoke", "NAME=app")
        wait_for(lambda: refused(key), 1)


def test_a_purge_removes_a_row_and_names_the_versions_that_learnt_it(make: Any) -> None:
    """After the first day: found, with nothing changed; then gone from every file, with the versions to delete."""
    datasets = make.data / "datasets"
    for path in (datasets, *datasets.iterdir()):  # the containers' user must be able to write there: docs/operations.md
        os.chown(path, 10001, 10001)
    found = make("purge", f"WHO={ROW}", check=False)
    assert found.returncode != 0
    assert "planted.jsonl: 1 row, line 1\n" in found.stdout
    assert list(places(make, ROW))
    docker(make, *COMPOSE, "stop", "trainer")
    removed = make("purge", f"WHO={ROW}", "YES=1").stdout
    assert all(f"{ADAPTER}@{version} was trained on 1 of them" in removed for version in (1, 2))
    assert list(places(make, ROW, services=("door", "server"))) == []


def states(make: Any) -> dict[str, list[str]]:
    """Container, status and the moment of its start, of door, server and trainer."""
    found = {}
    for service in ("door", "server", "trainer"):
        [container] = docker(make, *COMPOSE, "ps", "--all", "--quiet", service)
        found[service] = docker(
            make, "docker", "inspect", "--format", "{{.Id}} {{.State.Status}} {{.State.StartedAt}}", container
        )
    return found


def _started_after(make: Any, moment: str) -> bool:
    return states(make)["server"][2] != moment


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
