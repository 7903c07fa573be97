"""Of ``config/training.toml`` what a job has that does not say otherwise; the rest is the trainer's."""

import msgspec


class DefaultAdapter(msgspec.Struct, frozen=True, kw_only=True):
    """``[adapter]``."""

    name: str


class DefaultRecipe(msgspec.Struct, frozen=True, kw_only=True):
    """``[recipe]``."""

    seed: int


class JobDefaults(msgspec.Struct, frozen=True, kw_only=True):
    """What a job trains where it names no suffix, and with which seed."""

    adapter: DefaultAdapter
    recipe: DefaultRecipe
