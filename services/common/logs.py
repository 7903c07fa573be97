"""Structured logs: JSON lines in a container, readable lines in a terminal. Never a prompt, an answer or a data row."""

import logging
import sys
from collections.abc import MutableMapping
from contextvars import ContextVar
from typing import Any

import msgspec
import structlog

_request: ContextVar[str] = ContextVar("request")


def about_request(name: str) -> None:
    """Have every further line of this task, and of tasks that it starts, carry the request's id."""
    _request.set(name)


def configure_logs(*, level: str = "INFO", as_json: bool | None = None) -> None:
    """Route structlog and the standard library's loggers to standard error in one format.

    Args:
        level: the least level shown, by its name.
        as_json: force JSON lines or readable ones; ``None`` chooses readable ones on a terminal.
    """
    json_lines = not sys.stderr.isatty() if as_json is None else as_json
    shared: list[Any] = [
        _add_request,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if json_lines:
        final: list[Any] = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(serializer=_json)]
    else:
        final = [
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
        ]
    # The project's own lines go straight to standard error: through the standard library each would take ten times as long,
    # and there is one of every request. Libraries' lines take that way, and look the same.
    structlog.configure(
        processors=[*shared, *final],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *final],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())


def _add_request(_: Any, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    name = _request.get(None)
    if name is not None:
        line["request_id"] = name
    return line


def _json(line: Any, **_: Any) -> str:
    return msgspec.json.encode(line, enc_hook=repr).decode()
