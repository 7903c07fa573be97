"""What a server leaves behind that is asked to end: no content in its log, no process, no socket and no shared memory."""

import contextlib
import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest

from services.common.paths import DataPaths
from services.registry.layout import Registry
from services.registry.pointer import promote
from tests.e2e.adapters import QUESTION
from tests.e2e.asking import ANSWERS, BASE, LONG, ask, stream_whole
from tests.e2e.serving import STOP_SECONDS, ServerProcess, left_over

pytestmark = pytest.mark.e2e

_RUNNING = 6
_TOKENS = 24
_SHARED = re.compile(r"/dev/shm/\S+")  # noqa: S108 - of whoever made it


def test_logs_hold_no_prompt_and_no_answer(server: ServerProcess) -> None:
    """One line per request, without its content; nor is it in an engine's message."""
    ask(server, "acme")
    text = server.log.read_text()
    assert '"event":"request"' in text
    for content in (QUESTION, *ANSWERS.values()):
        assert content not in text


def test_sigterm_under_load_leaves_nothing(server: ServerProcess, registry: Registry, data: Path) -> None:
    """Running answers, streamed and whole, finish; a late one is 503 with Retry-After; the code is 0, and nothing of the server and its engine
    is left. Last: it ends the shared server.
    """
    promote(registry, "acme", 2)
    server.wait(lambda: server.readiness["adapters"]["acme"]["serving"] == "acme@2", 10)
    family = server.family()
    assert len(family) >= 2
    held = set.union(*map(_held, (server.process.pid, *family)))
    assert DataPaths(data).server_socket in held
    with ThreadPoolExecutor(_RUNNING) as pool:
        running = [pool.submit(_tell, server, stream=number % 2 == 0) for number in range(_RUNNING - 2)]
        streamed, whole = pool.submit(stream_whole, server, "acme"), pool.submit(ask, server, "acme")
        server.wait(lambda: server.running() >= _RUNNING - 2, 10)
        server.process.send_signal(signal.SIGTERM)
        server.wait(lambda: server.readiness["status"] == "draining", 5)
        with pytest.raises(openai.InternalServerError, match="stopping") as late:
            ask(server, "acme")
        assert late.value.status_code == 503
        assert int(late.value.response.headers["retry-after"]) > 0
        assert not all(answer.done() for answer in running)
        assert server.process.wait(STOP_SECONDS) == 0
        assert {answer.result() for answer in running} == {"length"}
        assert streamed.result()[:2] == whole.result() == ("acme@2", ANSWERS[2])
    assert left_over(family, 15) == []
    assert [path for path in held if path.exists()] == []
    with pytest.raises(openai.APIConnectionError):
        ask(server, "acme")


def _tell(server: ServerProcess, *, stream: bool) -> str:
    """How the answer to a long story's prompt ended; it is as long as was asked for."""
    options: dict[str, Any] = {"model": BASE, "messages": LONG, "max_tokens": _TOKENS, "temperature": 0}
    if not stream:
        answer = server.client.chat.completions.create(**options)
        assert answer.usage is not None
        assert answer.usage.completion_tokens == _TOKENS
        return str(answer.choices[0].finish_reason)
    chunks = list(server.client.chat.completions.create(**options, stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].usage.completion_tokens == _TOKENS
    return str(next(chunk.choices[0].finish_reason for chunk in reversed(chunks) if chunk.choices))


def _held(pid: int) -> set[Path]:
    """The files in shared memory, and those of sockets, that a process has open."""
    process = Path("/proc", str(pid))
    if not process.exists():
        return set()
    shared = set(_SHARED.findall((process / "maps").read_text()))
    sockets = {
        line.split()[6]: line.split()[7] for line in (process / "net/unix").read_text().splitlines() if "/" in line
    }
    for file in (process / "fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            link = str(file.readlink())
            shared |= set(_SHARED.findall(link))
            if (number := link.removeprefix("socket:[").removesuffix("]")) in sockets:
                shared.add(sockets[number])
    return {Path(path) for path in shared}


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
