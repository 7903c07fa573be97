"""The real server and its engine killed, again and again, and hanging, running, loading or starting: a restart is all that brings the service back.

Two kills of the engine and one of the server here; ``make crash-test`` has ten and four. Each server takes the place of the one before, on
the port of one door.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import httpx
import openai
import pytest

from services.registry.layout import ADAPTER_WEIGHTS, Registry
from services.registry.manifest import Manifest
from services.registry.pointer import promote
from services.server.serve import EXIT_FAILED, EXIT_STUCK
from tests.e2e.adapters import publish_variant
from tests.e2e.apps import App
from tests.e2e.asking import ANSWERS, LONG, MESSAGES, ask
from tests.e2e.serving import ServerProcess, is_engine, left_over
from tests.e2e.shared import SharedServer
from tests.support.doors import DoorProcess
from tests.support.nowhere import Nowhere
from tools.serving import free_port

pytestmark = pytest.mark.e2e

KILLS = int(os.environ.get("WHETSTONE_ENGINE_KILLS", "2"))
PLACES = ("probed", "in service", "checked", "loaded")[
    : max(1, KILLS // 2)
]  # of loading, at which the server is killed
HANGING_START_SECONDS = 30
SOON_STUCK = "engine.stuck_seconds=10"
WAITING_SECONDS = 5.0  # less than whoever calls out waits: the first of several tries for a name takes as long
STARTS = 3  # without a network: who calls out waits in each, and a busy machine is not slow in all of them
SDK_SECONDS = 60  # that no SDK is told to wait for longer than


class Lives:
    """One server after the other on the same data and the same door's port.

    Args:
        data: the data root, with two versions of ``acme``.
        door: it is open.
        network_seconds: see below.

    Attributes:
        network_seconds: how long a start takes in this machine's own network.
    """

    def __init__(self, data: Path, door: DoorProcess, network_seconds: float) -> None:
        self.network_seconds = network_seconds
        self._data = data
        self._door = door
        self._last: ServerProcess | None = None

    def start(self, *overrides: str, kill_at: str = "", inside: Nowhere | None = None) -> ServerProcess:
        """The next, once it is ready: as Compose does, restart: unless-stopped."""
        self.end()
        self._last = ServerProcess(self._data, *overrides, kill_at=kill_at, inside=inside, door=self._door)
        self._last.wait_ready()
        return self._last

    def running(self, *overrides: str) -> ServerProcess:
        """The last one, or another where that has ended or cannot be asked through its port."""
        last = self._last
        usable = last is not None and last.process.poll() is None and last.inside is None
        return last if last is not None and usable else self.start(*overrides)

    def end(self) -> None:
        """Nothing is left of the last."""
        if self._last is not None:
            self._last.end()


class Offline(NamedTuple):
    """A server that started without a network.

    Attributes:
        repair: the damaged version that is to be in service.
    """

    server: ServerProcess
    network: Nowhere
    repair: Callable[[], object]


@pytest.fixture(scope="module")
def lives(data: Path, shared: SharedServer, versions: dict[int, Manifest]) -> Iterator[Lives]:
    """Version 2 is to be in service, and 1 was before."""
    del versions
    network_seconds = shared.start_seconds
    shared.end()
    promote(Registry(data / "registry"), "acme", 2)
    with DoorProcess(data / "door" / "door.sock", free_port()) as door:
        lives = Lives(data, door, network_seconds)
        yield lives
        lives.end()


@pytest.fixture(scope="module")
def offline(lives: Lives, data: Path) -> Iterator[Offline]:
    """Started with a damaged current version, again where that took long, and killed when one that it loads later has come to the first of ``PLACES``."""
    weights = Registry(data / "registry").folder("acme", 2) / ADAPTER_WEIGHTS
    good = weights.read_bytes()
    weights.write_bytes(good[:-1])
    repair = partial(weights.write_bytes, good)
    try:
        with Nowhere() as network:
            for _ in range(STARTS):
                server = lives.start(kill_at=f"loading: {PLACES[0]}:2", inside=network)
                if server.start_seconds < lives.network_seconds + WAITING_SECONDS:
                    break
            yield Offline(server, network, repair)
    finally:
        repair()


def test_start_without_a_network_takes_no_longer(offline: Offline, lives: Lives) -> None:
    """Whoever calls out waits in vain there; nobody does. The start that it is held against was in this machine's own network."""
    assert offline.network.sent() == []
    assert offline.server.start_seconds < lives.network_seconds + WAITING_SECONDS


def test_start_with_a_damaged_current_version_serves_the_one_before(offline: Offline) -> None:
    """And it says so."""
    readiness = offline.server.readiness
    assert readiness["status"] == "degraded"
    assert "acme@2" in readiness["adapters"]["acme"]["refused"]
    assert ask(offline.server, "acme") == ("acme@1", ANSWERS[1])


def test_server_that_is_killed_while_it_loads_a_version_mixes_nothing(
    offline: Offline, lives: Lives, data: Path, versions: dict[int, Manifest]
) -> None:
    """Until the kill all answers are the old version's, name and words; after the restart they are the new one's. Nothing is left."""
    registry, server, before = Registry(data / "registry"), offline.server, ("acme@1", ANSWERS[1])
    offline.repair()
    _killed_at(PLACES[0], server, before)
    answered = ("acme@2", ANSWERS[2])
    assert offline.network.sent() == [], "nor while versions were loaded and apps asked"
    for place in PLACES[1:]:
        server = lives.start(
            kill_at=f"loading: {place}:{2 if place == 'in service' else 3}"
        )  # of two it starts with, one is in service
        assert ask(server, "acme") == answered
        number = 1 if answered[1] == ANSWERS[2] else 2
        new = publish_variant(registry, versions[number], kind="")
        promote(registry, "acme", new.version)
        _killed_at(place, server, answered)
        answered = (f"acme@{new.version}", ANSWERS[number])
    assert ask(lives.start(), "acme") == answered


def _killed_at(place: str, server: ServerProcess, old: tuple[str, str]) -> None:
    """Ask until the server is dead; it is to die at ``place`` of loading."""
    family = server.family()
    with pytest.raises((openai.APIConnectionError, openai.InternalServerError)):  # the second is the door's
        _keep_asking(server, old)
    assert server.process.wait(30) == -signal.SIGKILL
    assert f"killed at loading: {place}\n" in server.log.read_text()
    assert left_over(family, 15) == [], "the engine does not outlive its server"


def _keep_asking(server: ServerProcess, expected: tuple[str, str]) -> None:
    while True:
        assert ask(server, "acme") == expected


def test_engine_that_is_killed_again_and_again_comes_back(
    lives: Lives, record_property: Callable[[str, object], None]
) -> None:
    """Each time without a human and with the same version; clients see 503 and error events alone, and the SDK's own two retries end well."""
    server = lives.running()
    model = ask(server, "acme")
    assert model in {("acme@2", ANSWERS[2]), ("acme@1", ANSWERS[1])}
    apps = [App(server.url, model) for _ in range(4)]
    try:
        for number in range(KILLS):
            _until_all_were_answered(server, apps)
            server.wait(partial(_busy, server))
            family = server.family()
            os.kill(server.engine(), signal.SIGKILL)
            _check_what_is_said_meanwhile(server)
            assert server.process.wait(30) == EXIT_FAILED
            assert left_over(family, 30) == []
            last = number == KILLS - 1
            server = lives.start(*([SOON_STUCK] if last else []))
            assert server.readiness["adapters"]["acme"]["serving"] == model[0]
        _until_all_were_answered(server, apps)
    finally:
        for app in apps:
            app.end()
    record_property("kills of the engine", KILLS)
    record_property("answers", sum(app.answers for app in apps))
    record_property("streams that broke", sum(len(app.broken) for app in apps))
    record_property("tries of one request, at most", max(app.tries for app in apps))
    assert [app.fault for app in apps if app.fault] == []
    assert [app.unanswered for app in apps] == [0] * len(apps), "a connection was refused or broke"
    assert max(app.tries for app in apps) > 1
    assert {200} <= set.union(*(app.statuses for app in apps)) <= {200, 503}
    assert all("engine failed" in said for app in apps for said in app.broken)
    assert sum(len(app.broken) for app in apps) > 0


def _check_what_is_said_meanwhile(server: ServerProcess) -> None:
    """To who asks the server whose engine was killed, until it is gone, and the door from then on: 503, and how long a start takes here."""
    assert server.start_seconds is not None
    words, ready = set(), []
    with httpx.Client(base_url=server.url, timeout=30) as http:
        while True:
            gone = server.process.poll() is not None
            answer = http.post("/v1/chat/completions", json={"model": "acme", "messages": MESSAGES, "max_tokens": 1})
            assert answer.status_code == 503
            assert min(server.start_seconds, SDK_SECONDS) / 2 < int(answer.headers["retry-after"]) <= SDK_SECONDS
            words.add(answer.json()["error"]["message"].partition(";")[0].partition(":")[0])
            ready.append(http.get("/readyz"))
            if gone:
                break
            time.sleep(0.02)
    assert {"The engine failed", "The server is away for a moment"} <= words
    assert words <= {"The engine failed", "The engine failed while answering", "The server is away for a moment"}
    codes = [answer.status_code for answer in ready]
    assert (codes, codes[-1]) == (sorted(codes), 503), "once red, it stays so"
    assert "failed" in {answer.json().get("status") for answer in ready}


def _until_all_were_answered(server: ServerProcess, apps: list[App]) -> None:
    before = [app.answers for app in apps]
    server.wait(lambda: all(now.answers > then for now, then in zip(apps, before, strict=True)), 120)


def _busy(server: ServerProcess) -> bool:
    return server.running() > 1


def test_engine_that_hangs_is_ended(lives: Lives) -> None:
    """Stopped in the middle of a stream: the client is told, the process ends with a code of its own, and nothing is left."""
    server = lives.running(SOON_STUCK)
    family = server.family()
    chunks = server.client.chat.completions.create(model="acme", messages=LONG, stream=True, max_tokens=1000)
    for _ in range(3):
        next(chunks)
    os.kill(server.engine(), signal.SIGSTOP)
    with pytest.raises(openai.APIError, match="engine failed"):
        list(chunks)
    assert server.process.wait(40) == EXIT_STUCK
    assert left_over(family, 30) == []


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
