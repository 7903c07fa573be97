"""What the tests of retrains share."""

from pathlib import Path

import pytest
from hypothesis import settings

from services.base_model.identity import BaseModelSettings, BaseSettings
from services.base_model.install import install
from services.common.settings import load
from services.trainer.settings import TrainingSettings
from services.trainer.training.job import TrainingJob
from tests.unit.trainer.house import House, TinyBase

CONFIG = Path(__file__).resolve().parents[3] / "config"

settings.register_profile("patient", deadline=None)  # a machine that is busy with something else is no fault
settings.load_profile("patient")


@pytest.fixture
def house(tmp_path: Path) -> House:
    base = BaseModelSettings(name="tiny-base", package="tiny")
    install(tmp_path / "models", base, TinyBase())
    return House(tmp_path, BaseSettings(base_model=base))


@pytest.fixture
def job(tmp_path: Path) -> TrainingJob:
    """A job of the shipped settings, whose every folder is empty."""
    shipped = load("training", TrainingSettings, folder=CONFIG)
    return TrainingJob(
        base_folder=tmp_path,
        train_rows=tmp_path,
        holdout_rows=None,
        checkpoints_folder=tmp_path,
        adapter_folder=tmp_path,
        resume_from=None,
        recipe=shipped.recipe,
        lora=shipped.lora,
        checkpoints=shipped.checkpoints,
        cards=shipped.worker.cards,
    )
