"""What two texts have in common that say the same: no case, width, white space or closing marks."""

import unicodedata

_CLOSING = " .!?\u3002\u2026"


def normalise(text: str) -> str:
    """The text without what does not change its meaning; any other sign can carry meaning (-5, 3.5, code)."""
    folded = fold(text)
    return folded.rstrip(_CLOSING) or folded  # a text of closing marks alone is told apart by them


def fold(text: str) -> str:
    """The text without differences of case, width and white space."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
