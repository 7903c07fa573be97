"""Printing for people who read, and for pipes that do not."""

from rich.console import Console

_UNBROKEN = 10_000


def unbroken(console: Console) -> Console:
    """``console`` where it is a terminal; elsewhere one on which no line is broken, so that it can be searched."""
    return console if console.is_terminal else Console(file=console.file, width=_UNBROKEN)
