"""How a retrain ended; imports nothing heavy, because whoever follows a job reads it, too."""

import msgspec


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a retrain ended.

    Attributes:
        version: the new version's model name; None where the run was interrupted.
        passed: the gate's verdict; None where there is none, and then ``reasons`` says why.
        reasons: what the gate has against the version.
        seconds: wall time of each part, in order; together the whole retrain.
    """

    version: str | None
    run: str
    steps: int
    train_loss: float | None
    holdout_loss: float | None
    passed: bool | None
    reasons: list[str]
    seconds: dict[str, float]
