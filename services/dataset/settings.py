"""The table ``data`` of ``config/training.toml``."""

from typing import Annotated, Literal

import msgspec

from services.dataset.personal.settings import PersonalSettings

Share = Annotated[float, msgspec.Meta(ge=0.0, lt=1.0)]


class DataSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What rows are accepted and which of their tokens are learnt.

    Attributes:
        holdout_share: of the rows, chosen by their content's hash.
        min_rows: fewer rows to train on are refused.
        max_too_long_share: of all rows may be over ``recipe.max_length``.
        max_line_bytes: a longer line is a fault.
        loss: ``assistant`` learns the answers only, ``all`` every token.
        personal: what is done about likely personal data.
    """

    holdout_share: Share
    min_rows: Annotated[int, msgspec.Meta(ge=1)]
    max_too_long_share: Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
    max_line_bytes: Annotated[int, msgspec.Meta(ge=1024)]
    loss: Literal["assistant", "all"]
    personal: PersonalSettings


class LengthSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Of the table ``recipe`` what decides about rows; the rest is the trainer's."""

    max_length: Annotated[int, msgspec.Meta(ge=1)]


class CheckSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Of ``config/training.toml`` what decides about rows."""

    data: DataSettings
    recipe: LengthSettings
