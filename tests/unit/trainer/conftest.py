"""What the tests of retrains share."""

from pathlib import Path

import pytest
from hypothesis import settings

from services.base_model.identity import BaseModelSettings, BaseSettings
from services.base_model.install import install
from tests.unit.trainer.house import House, TinyBase

settings.register_profile("patient", deadline=None)  # a machine that is busy with something else is no fault
settings.load_profile("patient")


@pytest.fixture
def house(tmp_path: Path) -> House:
    base = BaseModelSettings(name="tiny-base", package="tiny")
    install(tmp_path / "models", base, TinyBase())
    return House(tmp_path, BaseSettings(base_model=base))
