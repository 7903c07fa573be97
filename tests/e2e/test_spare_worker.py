"""The queue's real worker with its real spare, which trains what comes, takes no card before, and is never left behind."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, project_environment
from tests.support.processes import lives, until

pytestmark = pytest.mark.e2e
WORDS = ["--set", "recipe.max_steps=1", "--set", "recipe.rows_per_step=2", "--set", "recipe.warmup_steps=0"]
EXIT_NOT_JUDGED = 7


@pytest.fixture(scope="module")
def data(base_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with the real base model, the example's rows and settings of its own."""
    root = tmp_path_factory.mktemp("data")
    (root / "models").symlink_to(base_model_dir.parent)
    shutil.copytree(REPOSITORY / "examples" / "norudam" / "datasets", root / "datasets")
    shutil.copytree(REPOSITORY / "config", root / "config")
    return root


@pytest.fixture
def worker(data: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """``python -m services.trainer work``."""
    command = [sys.executable, "-m", "services.trainer", "work"]
    environment = project_environment(data, WHETSTONE_CONFIG=str(data / "config"))
    with subprocess.Popen(command, cwd=REPOSITORY, env=environment) as process:
        yield process
        process.terminate()


def below(process: int) -> list[int]:
    """The process's children and theirs, without git and the like, which end at once."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [found for child in map(int, children) for found in (child, *below(child))]


def spare_of(worker: "subprocess.Popen[bytes]") -> list[int]:
    """Wait until the job's process waits, and its training worker, which has torch; both."""

    def is_ready() -> bool:
        both = below(worker.pid)
        return len(both) == 2 and all("libtorch" in Path(f"/proc/{one}/maps").read_text() for one in both[1:])

    until(is_ready, seconds=90)
    return below(worker.pid)


def test_a_spare_does_the_operators_retrain_and_another_takes_its_place(
    data: Path, worker: "subprocess.Popen[bytes]"
) -> None:
    spare = spare_of(worker)
    maps = "".join(Path(f"/proc/{process}/maps").read_text() for process in spare)
    assert "/dev/nvidia" not in maps, "no card is opened before there is a job"
    environment = project_environment(data, WHETSTONE_CONFIG=str(data / "config"))
    command = [sys.executable, "-m", "services.trainer", "retrain", "--json", *WORDS]
    with subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE) as retrain:
        until(lambda: bool(list(data.glob("runs/2*/worker.log"))), seconds=90)
        assert below(worker.pid)[:2] == spare, "both go on with the job"
        printed, _ = retrain.communicate(timeout=300)
    assert retrain.returncode == EXIT_NOT_JUDGED
    outcome = json.loads(printed)
    assert (outcome["version"], outcome["steps"]) == ("assistant@1", 1)
    another = spare_of(worker)
    assert not set(spare) & set(another)

    settings = data / "config" / "training.toml"
    settings.write_text(settings.read_text().replace("warm = true", "warm = false"))
    until(lambda: not below(worker.pid))
    assert not any(map(lives, another))
    settings.write_text(settings.read_text().replace("warm = false", "warm = true"))
    last = spare_of(worker)
    os.kill(worker.pid, signal.SIGKILL)
    until(lambda: not any(map(lives, last)))


def test_a_worker_that_is_asked_to_end_takes_its_spare_along(worker: "subprocess.Popen[bytes]") -> None:
    """Also while that one still imports."""
    until(lambda: len(below(worker.pid)) == 2, seconds=60)
    spare = below(worker.pid)
    worker.terminate()
    assert worker.wait(20) == 0
    assert not any(map(lives, spare))
