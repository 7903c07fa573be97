"""What is in force for one job: the settings files, what it overrides, and its hyperparameters."""

from collections.abc import Sequence
from typing import Any

import msgspec

from services.common.settings import SettingsError, load
from services.jobs.records import NewJob
from services.trainer.gate.settings import GateSettings
from services.trainer.settings import RecipeSettings, TrainingSettings

_GATE_TABLES = frozenset(GateSettings.__struct_fields__)


def training_settings(overrides: Sequence[str]) -> TrainingSettings:
    """``config/training.toml`` with those of the overrides that are of its tables.

    Raises:
        SettingsError: as ``load``.
    """
    return load("training", TrainingSettings, [item for item in overrides if not _of_gate(item)])


def gate_settings(overrides: Sequence[str]) -> GateSettings:
    """``config/gate.toml`` with those of the overrides that are of its tables.

    Raises:
        SettingsError: as ``load``.
    """
    return load("gate", GateSettings, [item for item in overrides if _of_gate(item)])


def settings_of(asked: NewJob) -> TrainingSettings:
    """The settings that a job trains with.

    Raises:
        SettingsError: as ``load``, or a hyperparameter is out of range.
    """
    settings = training_settings(asked.overrides)
    adapter = msgspec.structs.replace(settings.adapter, name=asked.adapter)
    return msgspec.structs.replace(settings, adapter=adapter, recipe=_recipe_of(asked, settings.recipe))


def _recipe_of(asked: NewJob, recipe: RecipeSettings) -> RecipeSettings:
    wanted, changed = asked.hyperparameters, dict[str, Any]()
    if wanted.n_epochs != "auto":
        changed |= {"epochs": float(wanted.n_epochs), "max_steps": 0}  # another max_steps would decide in its place
    if wanted.batch_size != "auto":
        rows_per_pass = recipe.rows_per_pass and _divisor(wanted.batch_size, most=recipe.rows_per_pass)
        changed |= {"rows_per_step": wanted.batch_size, "rows_per_pass": rows_per_pass}
    if wanted.learning_rate_multiplier != "auto":
        changed["learning_rate"] = recipe.learning_rate * wanted.learning_rate_multiplier
    if asked.seed is not None:
        changed["seed"] = asked.seed
    try:
        return msgspec.convert(msgspec.to_builtins(recipe) | changed, RecipeSettings)
    except msgspec.ValidationError as error:
        raise SettingsError(f"hyperparameters: {error}") from error


def _divisor(rows: int, *, most: int) -> int:
    """The largest number up to ``most`` that divides ``rows``: a pass is not to take more memory than it does."""
    return next((number for number in range(min(rows, most), 0, -1) if rows % number == 0), 1)


def _of_gate(override: str) -> bool:
    return override.partition(".")[0].strip() in _GATE_TABLES
