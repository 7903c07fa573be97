"""What the engine says when a step fails: never what the requests of that step held."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from services.server.serve import EXIT_FAILED
from tests.e2e.asking import BASE
from tests.e2e.serving import ServerProcess, left_over

pytestmark = pytest.mark.e2e

CANARY = "canary4711"


@pytest.fixture
def server(data: Path) -> Iterator[ServerProcess]:
    server = ServerProcess(data)
    server.wait_ready()
    yield server
    server.end()


def test_a_step_that_fails_tells_nothing_of_what_it_held(server: ServerProcess) -> None:
    """The worker is gone when the step is begun: prompt and stop string of its request are in no line, and the fault is in one."""
    worker = next(pid for pid in server.family() if "Worker" in Path(f"/proc/{pid}/comm").read_text())
    family = server.family()
    os.kill(worker, signal.SIGSTOP)
    refused: list[openai.InternalServerError] = []

    def ask() -> None:
        with pytest.raises(openai.InternalServerError) as caught:
            # Without a schema: while its grammar is compiled, a step without the request would be begun, and fail.
            server.client.chat.completions.create(
                model=BASE, messages=[{"role": "user", "content": f"Who is {CANARY}?"}], stop=[CANARY]
            )
        refused.append(caught.value)

    asking = threading.Thread(target=ask)
    asking.start()
    server.wait(lambda: server.readiness["answers_in_flight"] == 1)
    time.sleep(3)  # until the engine's core has begun the step
    os.kill(worker, signal.SIGKILL)
    asking.join(30)
    assert server.process.wait(30) == EXIT_FAILED
    assert left_over(family, 30) == []
    said = server.log.read_text()
    assert "Dumping scheduler output" in said, "vLLM prints what the step held, or means to"
    assert CANARY not in said + refused[0].message
