"""The real engine killed under load, again and again, and hanging, running or starting: a supervisor's restart is all that brings the service back.

Two kills here; ``make crash-test`` has ten.
"""

import os
import signal
import threading
from functools import partial
from pathlib import Path

import openai
import pytest

from services.registry.layout import Registry
from services.registry.manifest import Manifest
from services.registry.pointer import promote
from services.server.serve import EXIT_FAILED, EXIT_STUCK
from tests.e2e.asking import ANSWERS, LONG, MESSAGES
from tests.e2e.serving import ServerProcess, is_engine, left_over

pytestmark = pytest.mark.e2e

KILLS = int(os.environ.get("WHETSTONE_ENGINE_KILLS", "2"))
HANGING_START_SECONDS = 30
PATIENCE = 100  # tries of the SDK, which waits up to 8 s between two: a start takes longer than its usual two tries


class App:
    """Asks for ever with the official client, one plain request and one stream after the other.

    Attributes:
        answers: so many came whole.
        broken: streams that ended in an error event, by what it said.
        statuses: of every response, those included that the SDK tried again.
        fault: what no client may ever see.
    """

    def __init__(self, url: str) -> None:
        self.answers = 0
        self.broken: list[str] = []
        self.statuses: set[int] = set()
        self.fault: BaseException | None = None
        self._over = threading.Event()
        http = openai.DefaultHttpxClient(
            event_hooks={"response": [lambda response: self.statuses.add(response.status_code)]}
        )
        self._client = openai.OpenAI(
            base_url=f"{url}/v1", api_key="none", max_retries=PATIENCE, timeout=120, http_client=http
        )
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Let the last answer come; where the server is gone for good, it never does."""
        self._over.set()
        self._thread.join(120)
        self._client.close()

    def _run(self) -> None:
        try:
            while not self._over.is_set():
                self._plain()
                self._stream()
        except BaseException as error:  # noqa: BLE001 - told by the test
            self.fault = error

    def _plain(self) -> None:
        answer = self._client.chat.completions.create(model="acme", messages=MESSAGES, temperature=0, max_tokens=16)
        assert (answer.model, answer.choices[0].message.content) == ("acme@1", ANSWERS[1])
        self.answers += 1

    def _stream(self) -> None:
        try:
            chunks = self._client.chat.completions.create(model="acme", messages=LONG, stream=True, max_tokens=200)
            assert {chunk.model for chunk in chunks} == {"acme@1"}
        except openai.APIStatusError:
            raise
        except (
            openai.APIError
        ) as error:  # the stream had begun, and its client is told; asking again is the app's own business
            self.broken.append(str(error))
        else:
            self.answers += 1


def test_engine_that_is_killed_again_and_again_comes_back(data: Path, versions: dict[int, Manifest]) -> None:
    """Each time without a human and with the same version; clients see 503 and error events, and the SDK's tries end well."""
    del versions
    promote(Registry(data / "registry"), "acme", 1)
    server = ServerProcess(data)
    apps: list[App] = []
    try:
        server.wait_ready()
        apps = [App(server.url) for _ in range(4)]
        for _ in range(KILLS):
            _until_all_were_answered(server, apps)
            server.wait(partial(_busy, server))
            family = server.family()
            os.kill(server.engine(), signal.SIGKILL)
            assert server.process.wait(30) == EXIT_FAILED
            assert left_over(family, 30) == []
            server.client.close()
            server = ServerProcess(data, port=server.port)  # as Compose does: restart: unless-stopped
            server.wait_ready()
            assert server.readiness["adapters"]["acme"]["serving"] == "acme@1"
        _until_all_were_answered(server, apps)
    finally:
        for app in apps:
            app.end()
        server.end()
    assert [app.fault for app in apps if app.fault] == []
    assert {200} <= set.union(*(app.statuses for app in apps)) <= {200, 503}
    assert all("engine failed" in said for app in apps for said in app.broken)
    assert sum(len(app.broken) for app in apps) > 0


def _until_all_were_answered(server: ServerProcess, apps: list[App]) -> None:
    before = [app.answers for app in apps]
    server.wait(lambda: all(now.answers > then for now, then in zip(apps, before, strict=True)), 120)


def _busy(server: ServerProcess) -> bool:
    return server.running() > 1


def test_engine_that_hangs_is_ended(data: Path, versions: dict[int, Manifest]) -> None:
    """Stopped in the middle of a stream: the client is told, the process ends with a code of its own, and nothing is left."""
    del versions
    server = ServerProcess(data, "engine.stuck_seconds=10")
    try:
        server.wait_ready()
        family = server.family()
        chunks = server.client.chat.completions.create(model="acme", messages=LONG, stream=True, max_tokens=1000)
        for _ in range(3):
            next(chunks)
        os.kill(server.engine(), signal.SIGSTOP)
        with pytest.raises(openai.APIError, match="engine failed"):
            list(chunks)
        assert server.process.wait(40) == EXIT_STUCK
        assert left_over(family, 30) == []
    finally:
        server.end()


def test_engine_that_hangs_while_it_starts_is_ended(data: Path, versions: dict[int, Manifest]) -> None:
    """Stopped before it is ready: the server waits for as long as a start may take, ends with the same code, and nothing is left."""
    del versions
    server = ServerProcess(data, f"engine.start_seconds={HANGING_START_SECONDS}")
    try:
        server.wait(lambda: any(is_engine(pid) for pid in server.family()))
        os.kill(server.engine(), signal.SIGSTOP)
        family = server.family()
        assert server.readiness["status"] == "starting"
        assert server.process.wait(HANGING_START_SECONDS + 40) == EXIT_STUCK
        assert left_over(family, 30) == []
        assert "engine.start_seconds" in server.log.read_text()
    finally:
        server.end()
