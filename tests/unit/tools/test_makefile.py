"""What the Makefile hands to Docker, word by word; a ``docker`` that writes its words down stands in for the real one."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
SERVER = ("exec", "server", "python", "-m", "services.server", "status")
KEYS = ("run", "--rm", "--no-deps", "keys", "key")
PURGE = ("run", "--rm", "--no-deps", "-T", "purge")
REGISTRY = ("run", "--rm", "registry")


class Make:
    """Runs targets with a docker that answers nothing and remembers everything.

    Attributes:
        output: what the last call printed on standard output.
    """

    def __init__(self, folder: Path) -> None:
        self._heard = folder / "heard"
        docker = folder / "docker"
        docker.write_text(
            f"#!{sys.executable}\nimport json, sys\n"
            f"with open({str(self._heard)!r}, 'a') as heard: heard.write(json.dumps(sys.argv[1:]) + '\\n')\n"
            f"if sys.argv[1:3] == ['image', 'inspect']: print(json.dumps([{{'Id': 'sha256:a', 'RepoDigests': []}}]))\n"
        )
        docker.chmod(0o755)
        data = str(folder / "data")  # `make build` makes folders
        self._environment = {"PATH": f"{folder}:{os.environ['PATH']}", "HOME": str(folder), "WHETSTONE_DATA_DIR": data}
        self.output = ""

    def __call__(self, *words: str) -> list[Any]:
        """The calls of docker that ``make`` with these words leads to, without ``compose -f compose.yaml``."""
        self._heard.write_text("")
        self.output = subprocess.run(
            ["make", "--no-print-directory", *words],
            cwd=REPOSITORY,
            env=self._environment,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        calls = [json.loads(line) for line in self._heard.read_text().splitlines()]
        calls = [call for call in calls if call[:2] != ["image", "inspect"]]
        assert all(call[:3] == ["compose", "-f", "compose.yaml"] for call in calls)
        return [tuple(call[3:]) for call in calls]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """The real Makefile."""
    return Make(tmp_path)


@pytest.mark.parametrize(
    ("target", "call"),
    [
        (["check-data"], ("run", "--rm", "trainer", "check-data", "--json")),
        (["preview"], ("run", "--rm", "trainer", "preview", "--rows", "3", "--json")),
        (
            ["preview", "ROW=a b.jsonl:3"],
            (*("run", "--rm", "trainer", "preview", "--rows", "3"), "--row", "a b.jsonl:3", "--json"),
        ),
        (["versions"], (*REGISTRY, "versions", "--json")),
        (["verify", "ADAPTER=acme"], (*REGISTRY, "verify", "--adapter", "acme", "--json")),
        (["keys"], (*KEYS, "list", "--json")),
        (["usage", "FROM=2026-11-01"], (*KEYS[:-1], "usage", "--from", "2026-11-01", "--json")),
        (["status"], (*SERVER, "--json")),
        (["jobs"], ("run", "--rm", "trainer", "jobs", "--json")),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_json_is_all_that_is_printed(make: Make, target: list[str], call: tuple[str, ...]) -> None:
    """``JSON=1`` asks for it once, and make itself prints nothing beside it; without it nothing asks for it."""
    assert make(*target, "JSON=1") == [call]
    assert make.output == ""
    assert make(*target)[-1] == tuple(word for word in call if word != "--json")


def test_a_setting_reaches_the_trainer_as_it_was_written(make: Make) -> None:
    """Quotes, brackets and the shell's own signs included; several are told apart by spaces."""
    settings = ['lora.target_modules=["q_proj","v_proj"]', "adapter.name=it's;x>y", "recipe.epochs=2"]
    words = [word for setting in settings for word in ("--set", setting)]
    assert make("check-data", f"SET={' '.join(settings)}") == [("run", "--rm", "trainer", "check-data", *words)]


def test_keys_are_made_limited_and_revoked(make: Make) -> None:
    """A name is one word, whatever is in it; one that was forgotten is missing, not empty."""
    assert make("key", "NAME=app") == [(*KEYS, "add", "app")]
    limited = make(
        "key",
        "NAME=our app",
        "MODELS=acme,beta",
        "ROLES=admin",
        "RPM=60",
        "TPM=9000",
        "TOKENS_PER_DAY=90000",
        "EXPIRES=2027-01-31 12:00",
    )
    words = (
        "--models",
        "acme,beta",
        "--roles",
        "admin",
        "--rpm",
        "60",
        "--tpm",
        "9000",
        "--tokens-per-day",
        "90000",
        "--expires",
        "2027-01-31 12:00",
    )
    assert limited == [(*KEYS, "add", "our app", *words)]
    assert make("rotate", "NAME=app") == [(*KEYS, "rotate", "app")]
    rotated = make("rotate", "NAME=our app", "GRACE=24h", "EXPIRES=2028-01-31")
    assert rotated == [(*KEYS, "rotate", "our app", "--grace", "24h", "--expires", "2028-01-31")]
    assert make("revoke", "NAME=our app") == [(*KEYS, "revoke", "our app")]
    assert make("revoke") == [(*KEYS, "revoke")]


@pytest.mark.parametrize("given", ["a text", "a file"])
def test_who_is_purged_is_told_on_standard_input_alone(make: Make, tmp_path: Path, given: str) -> None:
    """Neither echoed nor an argument; a text, whatever is in it, or a file's lines."""
    who, docker = "it's Kim; $HOME", tmp_path / "docker"
    docker.write_text(docker.read_text() + f"open({str(tmp_path / 'read')!r}, 'wb').write(sys.stdin.buffer.read())\n")
    (tmp_path / "who").write_text(who + "\nminji@norudam.kr\n")
    word, read = (who, who + "\n") if given == "a text" else (str(tmp_path / "who"), (tmp_path / "who").read_text())
    word = word.replace("$", "$$")
    assert make("purge", f"WHO={word}") == [PURGE]
    assert (tmp_path / "read").read_text() == read
    assert make("purge", f"WHO={word}", "YES=1", "JSON=1") == [(*PURGE, "--yes", "--json")]
    assert make.output == ""
    assert make("purge") == [PURGE]
    assert (tmp_path / "read").read_text() == ""


def test_a_job_is_cancelled_by_its_id(make: Make) -> None:
    """One that was forgotten is missing, not empty."""
    assert make("cancel", "JOB=ftjob-1") == [("run", "--rm", "trainer", "cancel", "ftjob-1")]
    assert make("cancel") == [("run", "--rm", "trainer", "cancel")]


def test_a_version_is_given_up_by_its_number(make: Make) -> None:
    """One that was forgotten is missing, not all of them."""
    trainer = ("run", "--rm", "trainer", "delete")
    assert make("delete", "ADAPTER=acme", "VERSION=7") == [(*trainer, "--adapter", "acme", "--version", "7")]
    assert make("delete") == [(*trainer, "--version")]


def test_both_images_are_built_and_all_is_stopped(make: Make) -> None:
    """Without a profile, door, server and trainer are what there is; `down` ends the tools' containers, too."""
    assert make("build") == [("build",)]
    assert make("down") == [("--profile", "tools", "down")]
    assert make("logs") == [("logs", "--follow", "door", "server", "trainer")]


def test_versions_are_chosen(make: Make) -> None:
    """By number, and by name where there are several adapters."""
    assert make("promote", "VERSION=3", "ADAPTER=acme") == [
        (*REGISTRY, "promote", "--adapter", "acme", "--version", "3")
    ]
    assert make("rollback") == [(*REGISTRY, "rollback")]
