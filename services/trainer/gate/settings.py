"""The gate's settings: ``config/gate.toml``."""

from typing import Annotated

import msgspec

Share = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
Positive = Annotated[int, msgspec.Meta(ge=1)]
Seconds = Annotated[float, msgspec.Meta(gt=0.0)]


class Judging(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Table ``gate``: how a candidate is judged; ``config/gate.toml`` explains each key."""

    server: str
    load_seconds: Seconds
    request_seconds: Seconds
    concurrency: Positive
    answer_tokens: Positive
    general_prompts: Annotated[int, msgspec.Meta(ge=0, le=1000)]
    general_texts: Annotated[int, msgspec.Meta(ge=1, le=1000)]
    shown_answers: Annotated[int, msgspec.Meta(ge=0, le=200)]
    bootstrap_samples: Annotated[int, msgspec.Meta(ge=100)]
    confidence: Annotated[float, msgspec.Meta(gt=0.5, lt=1.0)]
    seed: Annotated[int, msgspec.Meta(ge=0)]


class Thresholds(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Table ``verdict``: what a candidate must reach; ``config/gate.toml`` explains each key."""

    min_holdout_rows: Positive
    min_holdout_gain: Annotated[float, msgspec.Meta(ge=0.0)]
    max_score_drop: Share
    min_stop_share: Share
    max_general_drop: Share
    max_text_loss_rise: Annotated[float, msgspec.Meta(ge=0.0)]


class GateSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of ``config/gate.toml``."""

    gate: Judging
    verdict: Thresholds
