"""Training or holdout, decided by a row's content alone: a row never moves when the data grow or are reordered."""

_SPACE = 1 << 64


def in_holdout(near_hash: str, share: float) -> bool:
    """Whether a row is held out.

    Args:
        near_hash: of the row's normalised content, so that near copies of a row fall on the same side.
        share: of the rows to hold out, in expectation; a larger share holds out the same rows and more.
    """
    return int(near_hash[:16], 16) < share * _SPACE
