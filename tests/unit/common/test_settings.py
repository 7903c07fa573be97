"""Every shipped setting is known, in every profile; a wrong one is named with its file."""

from pathlib import Path
from typing import Any

import pytest

from services.base_model.identity import BaseSettings
from services.common.settings import SettingsError, load
from services.server.settings import ServerSettings
from services.trainer.gate.settings import GateSettings
from services.trainer.settings import TrainingSettings

CONFIG = Path(__file__).resolve().parents[3] / "config"
KINDS: dict[str, type[Any]] = {
    "base": BaseSettings,
    "training": TrainingSettings,
    "server": ServerSettings,
    "gate": GateSettings,
}


@pytest.mark.parametrize("profile", ["", "cpu"])
@pytest.mark.parametrize("name", KINDS)
def test_every_shipped_setting_is_known(name: str, profile: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHETSTONE_PROFILE", profile)
    load(name, KINDS[name], folder=CONFIG)


def test_every_shipped_file_is_read_by_somebody() -> None:
    assert {file.stem for file in CONFIG.rglob("*.toml")} == set(KINDS)


def test_the_default_recipe_is_the_tutorials() -> None:
    settings = load("training", TrainingSettings, folder=CONFIG)
    recipe, lora = settings.recipe, settings.lora
    assert (lora.rank, lora.alpha, lora.dropout, len(lora.target_modules)) == (16, 16, 0.0, 7)
    assert (recipe.learning_rate, recipe.scheduler, recipe.warmup_steps, recipe.rows_per_step) == (2e-4, "linear", 5, 8)
    assert (recipe.weight_decay, recipe.seed, recipe.max_length) == (0.01, 3407, 2048)
    assert settings.data.loss == "assistant"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("recipe.epoch=2", r"training\.toml.*unknown field `epoch`.*recipe"),
        ("recipe.epochs=many", r"Expected `float`, got `str`.*epochs"),
        ("recipe.rows_per_pass=3", r"rows_per_pass = 3 does not divide rows_per_step = 8"),
        ("recipe.base_bits=8", r"base_bits"),
        ("lora.rank=0", r">= 1.*lora\.rank"),
        ("epochs", r"--set epochs: want table\.key=value"),
    ],
)
def test_a_wrong_setting_is_refused_with_its_name(override: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        load("training", TrainingSettings, [override], folder=CONFIG)


def test_the_example_in_the_message_is_a_setting_that_exists() -> None:
    """Whoever copies it from the error gets on."""
    with pytest.raises(SettingsError) as caught:
        load("training", TrainingSettings, ["epochs"], folder=CONFIG)
    example = str(caught.value).rpartition("--set ")[2]
    assert load("training", TrainingSettings, [example], folder=CONFIG).recipe.epochs == 2


def test_a_profile_replaces_single_values_and_the_command_line_has_the_last_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WHETSTONE_PROFILE", "cpu")
    settings = load("training", TrainingSettings, ["recipe.epochs=7", 'adapter.name="support"'], folder=CONFIG)
    assert (settings.checkpoints.every_steps, settings.recipe.epochs, settings.adapter.name) == (20, 7.0, "support")
    with pytest.raises(SettingsError, match="WHETSTONE_CONFIG"):
        load("training", TrainingSettings, folder=tmp_path)


def test_a_profile_that_does_not_exist_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHETSTONE_PROFILE", "gpu")
    with pytest.raises(SettingsError, match="WHETSTONE_PROFILE=gpu"):
        load("training", TrainingSettings, folder=CONFIG)
