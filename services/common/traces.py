"""Where an error came from, for the log, without what it was about: no message, no local variable, no prompt, no row."""

import traceback


def trace_of(error: BaseException) -> list[str]:
    """The error's type and its frames as ``file:line function``, innermost last, causes first."""
    frames = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)]
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return [*(trace_of(cause) if cause else ()), *frames, type(error).__qualname__]
