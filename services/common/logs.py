"""Structured logs: JSON lines in a container, readable lines in a terminal. Never a prompt, an answer or a data row."""

import logging
import sys
import time
from collections.abc import MutableMapping
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec
import structlog

_request: ContextVar[str] = ContextVar("request")
_encoder = msgspec.json.Encoder(enc_hook=repr)
_MICROSECONDS = 1_000_000


def about_request(name: str) -> None:
    """Have every further line of this task, and of tasks that it starts, carry the request's id."""
    _request.set(name)


def configure_logs(*, level: str = "INFO", as_json: bool | None = None) -> None:
    """Route structlog and the standard library's loggers to standard error in one format.

    Args:
        level: the least level shown, by its name.
        as_json: force JSON lines or readable ones; ``None`` chooses readable ones on a terminal.
    """
    # The project's own lines go straight to standard error: through the standard library each would take ten times as long,
    # and there is one of every request. Libraries' lines take that way, and look the same.
    structlog.configure(
        processors=[*_SHARED, *_final(as_json=as_json)],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(line_formatter(as_json=as_json))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())


def line_formatter(*, as_json: bool | None = None) -> logging.Formatter:
    """How a library's line is written, in whichever process; as ``configure_logs`` has it."""
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*_SHARED, structlog.stdlib.add_logger_name],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_final(as_json=as_json)],
    )


def _final(*, as_json: bool | None) -> list[Any]:
    if not sys.stderr.isatty() if as_json is None else as_json:
        return [structlog.processors.format_exc_info, _as_json]
    return [
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
    ]


def _add_request(_: Any, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    name = _request.get(None)
    if name is not None:
        line["request_id"] = name
    return line


def _add_time(_: Any, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    seconds, microseconds = divmod(time.time_ns() // 1000, _MICROSECONDS)
    line["timestamp"] = f"{_second(seconds)}.{microseconds:06d}Z"
    return line


@lru_cache(maxsize=1)  # thousands of lines may share one
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat()


def _as_json(_: Any, __: str, line: MutableMapping[str, Any]) -> str:
    return _encoder.encode(line).decode()


_SHARED: list[Any] = [_add_request, structlog.processors.add_log_level, _add_time]
