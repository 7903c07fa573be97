"""What the tests of purges share."""

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from services.base_model.identity import BaseModelSettings, BaseSettings
from services.base_model.install import install
from services.purge.__main__ import main
from tests.unit.trainer.house import CONFIG, House, TinyBase
from tests.unit.trainer.work.office import Office

Purge = Callable[..., tuple[int, Any]]


@pytest.fixture
def office(tmp_path: Path) -> Office:
    """A data root with a base model, 20 rows and an empty queue."""
    base = BaseModelSettings(name="tiny-base", package="tiny")
    install(tmp_path / "models", base, TinyBase())
    return Office(House(tmp_path, BaseSettings(base_model=base)))


@pytest.fixture
def purge(office: Office, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Purge:
    """Purge what is given as texts; the exit code, and what was said: JSON where that was asked for, else all of it."""
    monkeypatch.setenv("WHETSTONE_CONFIG", str(CONFIG))
    monkeypatch.setenv("WHETSTONE_DATA", str(office.house.paths.root))
    monkeypatch.delenv("WHETSTONE_PROFILE", raising=False)

    def run(*texts: str, words: tuple[str, ...] = ("--json",)) -> tuple[int, Any]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\n".join(texts).encode()), encoding="utf-8"))
        capsys.readouterr()
        code = main(words)
        printed = capsys.readouterr()
        if "--json" in words and printed.out:
            return code, json.loads(printed.out)
        return code, printed.out + printed.err

    return run
