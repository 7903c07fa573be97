"""What a server leaves behind that is asked to end: no content in its log, and no process."""

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from services.registry.layout import Registry
from services.registry.pointer import promote
from tests.e2e.adapters import QUESTION
from tests.e2e.asking import ANSWERS, ask, stream_whole
from tests.e2e.serving import ServerProcess, left_over

pytestmark = pytest.mark.e2e


def test_logs_hold_no_prompt_and_no_answer(server: ServerProcess) -> None:
    """One line per request, without its content; nor is it in an engine's message."""
    ask(server, "acme")
    text = server.log.read_text()
    assert '"event":"request"' in text
    for content in (QUESTION, *ANSWERS.values()):
        assert content not in text


def test_sigterm_leaves_no_process(server: ServerProcess, registry: Registry) -> None:
    """The running answer finishes, the code is 0, and the engine's processes are gone. Last: it ends the shared server."""
    promote(registry, "acme", 2)
    server.wait(lambda: server.readiness["adapters"]["acme"]["serving"] == "acme@2", 10)
    family = server.family()
    assert len(family) >= 2
    result: list[Any] = []
    thread = threading.Thread(target=lambda: result.append(stream_whole(server, "acme")[1]))
    thread.start()
    server.wait(lambda: server.running() > 0, 10)
    assert server.terminate() == 0
    thread.join()
    assert result == [ANSWERS[2]]
    assert left_over(family) == []


@pytest.mark.parametrize("seconds", [2, 9])
def test_sigterm_while_starting_leaves_no_process(data: Path, seconds: int) -> None:
    """However far the engine's start has come, it is abandoned at once and nothing of it is left."""
    server = ServerProcess(data)
    try:
        server.wait(lambda: server.readiness.get("status") == "starting")
        time.sleep(seconds)
        family = server.family()
        began = time.monotonic()
        assert server.terminate() == 0
        assert time.monotonic() - began < 20
        assert left_over(family) == []
    finally:
        server.end()
