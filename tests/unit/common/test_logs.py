"""Logs are lines of JSON in a container and readable lines on a terminal; both come from structlog and from libraries alike."""

import io
import json
import logging
import re
import sys
from collections.abc import Iterator

import pytest
import structlog

from services.common.logs import configure_logs


class Terminal(io.StringIO):
    """A standard error that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def loggers_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()
    root.handlers[:], root.level = handlers, level


def say_something() -> None:
    structlog.get_logger().info("swapped", adapter="acme", version=3)
    logging.getLogger("a.library").warning("odd %s", "thing")
    structlog.get_logger().debug("not shown")
    try:
        _ = 1 / 0
    except ZeroDivisionError:
        structlog.get_logger().exception("broke")


@pytest.mark.parametrize(("stream", "as_json"), [(io.StringIO, None), (Terminal, True)])
def test_elsewhere_than_on_a_terminal_every_line_is_json(
    stream: type[io.StringIO],
    as_json: bool | None,  # noqa: FBT001 - a parameter
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stderr", written := stream())
    configure_logs(as_json=as_json)
    say_something()
    swapped, odd, broke = map(json.loads, written.getvalue().splitlines())
    assert (swapped["event"], swapped["adapter"], swapped["version"]) == ("swapped", "acme", 3)
    assert (swapped["level"], odd["level"], broke["level"]) == ("info", "warning", "error")
    assert (odd["event"], odd["logger"]) == ("odd thing", "a.library")
    assert "ZeroDivisionError" in broke["exception"]


@pytest.mark.parametrize(("stream", "as_json"), [(Terminal, None), (io.StringIO, False)])
def test_on_a_terminal_lines_are_for_people(
    stream: type[io.StringIO],
    as_json: bool | None,  # noqa: FBT001 - a parameter
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stderr", written := stream())
    configure_logs(as_json=as_json)
    say_something()
    text = written.getvalue()
    assert ("\x1b[" in text) == (stream is Terminal), "colours where they are seen only"
    lines = re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()
    assert lines[0].split()[1:] == ["[info", "]", "swapped", "adapter=acme", "version=3"]
    assert "[warning  ] odd thing" in lines[1]
    assert "Traceback (most recent call last):" in lines
    assert lines[-1] == "ZeroDivisionError: division by zero"
    assert "not shown" not in text
