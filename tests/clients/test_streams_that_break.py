"""What each SDK makes of a stream that the server breaks off. Last: it ends the shared server."""

import os
import signal
from pathlib import Path

import pytest

from tests.clients.programs_in import ClientProgram, Served, node, python

pytestmark = pytest.mark.clients


def test_every_sdk_raises_where_a_stream_breaks(served: Served) -> None:
    """They take a stream that merely closes for a whole answer; an error event tells them that it is not one."""
    clients = [
        ClientProgram(python("openai-3", "openai_python/broken_stream.py"), served),
        ClientProgram(python("openai-2", "openai_python/broken_stream.py"), served),
        ClientProgram(node("node/broken_stream.mjs"), served),
    ]
    for client in clients:
        client.wait_streaming()
    engine = next(pid for pid in served.server.family() if b"EngineCor" in Path(f"/proc/{pid}/comm").read_bytes())
    os.kill(engine, signal.SIGKILL)
    for client in clients:
        client.expect_success()
