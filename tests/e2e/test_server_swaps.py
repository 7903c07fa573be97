"""Versions come, go and are refused while the real engine answers and scores."""

import contextlib
import shutil
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from services.registry.errors import RegistryError
from services.registry.layout import Registry
from services.registry.manifest import Manifest
from services.registry.pointer import promote, rollback
from tests.e2e.adapters import publish_variant
from tests.e2e.asking import ANSWERS, BASE, ask, stream_whole
from tests.e2e.serving import ServerProcess, delete_adapters
from tests.support.volumes import small, tree

pytestmark = pytest.mark.e2e


def test_swap_under_load_mixes_nothing(server: ServerProcess, registry: Registry) -> None:
    """While clients ask, the pointer goes to 2, to 1 and to 2: each answer is whole, and of the version it names."""
    stop = threading.Event()
    seen: list[tuple[str, str]] = []
    failures: list[BaseException] = []

    def keep_asking(*, stream: bool) -> None:
        while not stop.is_set():
            try:
                seen.append(stream_whole(server, "acme")[:2] if stream else ask(server, "acme"))
            except BaseException as error:  # noqa: BLE001 - collected, and asserted to be none
                failures.append(error)

    asking = [threading.Thread(target=keep_asking, kwargs={"stream": number % 2 == 0}) for number in range(4)]
    for thread in asking:
        thread.start()
    try:
        for version, limit in ((2, 2.0), (1, 1.0), (2, 2.0)):
            count = len(seen)
            server.wait(lambda: len(seen) > count + 3)  # noqa: B023 - called at once
            moved = time.monotonic()
            promote(registry, "acme", version) if version == 2 else rollback(registry, "acme")
            server.wait(lambda: server.readiness["adapters"]["acme"]["serving"] == f"acme@{version}", 5)  # noqa: B023
            took = time.monotonic() - moved
            assert took < limit, f"{took:.2f} s to acme@{version}"
    finally:
        count = len(seen)
        server.wait(lambda: len(seen) > count + 3)
        stop.set()
        for thread in asking:
            thread.join()
    assert failures == []
    assert {model for model, _ in seen} == {"acme@1", "acme@2"}
    assert all(text == ANSWERS[int(model[-1])] for model, text in seen), set(seen)


def test_prompts_are_scored_among_other_answers(server: ServerProcess) -> None:
    """A probe, or a client's echo with logprobs, shares the engine's steps with answers: both are right, the engine lives."""
    scoring: Any = {"prompt": "The sea was calm that morning, and the boats came home early.", "max_tokens": 1}
    scoring |= {"echo": True, "logprobs": 0, "temperature": 0}
    alone = server.client.completions.create(model="acme@1", **scoring).choices[0].logprobs
    assert alone is not None
    assert alone.token_logprobs is not None
    stop = threading.Event()
    asking = [threading.Thread(target=_keep_asking, args=(server, stop)) for _ in range(3)]
    for thread in asking:
        thread.start()
    try:
        for _ in range(6):
            among = server.client.completions.create(model="acme@1", **scoring).choices[0].logprobs
            assert among is not None
            assert among.token_logprobs is not None
            assert among.token_logprobs[1:] == pytest.approx(alone.token_logprobs[1:], abs=1e-3)
    finally:
        stop.set()
        for thread in asking:
            thread.join()


def test_base_is_itself_among_as_many_adapters_as_a_step_holds(
    server: ServerProcess, data: Path, registry: Registry, versions: dict[int, Manifest]
) -> None:
    """Every place in the engine has an adapter then; vLLM's own product on a processor gives the base's tokens the last one's."""
    others = ["beside-1", "beside-2"]
    for name in others:
        promote(registry, name, publish_variant(registry, versions[1], kind="", adapter=name).version)
    server.wait(lambda: set(others) <= set(server.names()), 20)
    alone = ask(server, BASE)
    stop = threading.Event()
    asking = [
        threading.Thread(target=_keep_asking, args=(server, stop, model)) for model in ("acme@1", "acme@2", *others)
    ]
    for thread in asking:
        thread.start()
    try:
        assert [ask(server, BASE) for _ in range(4)] == [alone] * 4
    finally:
        stop.set()
        for thread in asking:
            thread.join()
        delete_adapters(server, data, *others)


def _keep_asking(server: ServerProcess, stop: threading.Event, model: str = "acme@2") -> None:
    while not stop.is_set():
        ask(server, model)


REASONS = {
    "nothing": "answers as the base model does",
    "names": "no_proj",
    "dora": "DoRA",
    "rank": "max_lora_rank",
    "base": "another base model",
    "template": "another chat template",
    "bit": "does not match its hash",
    "pickle": "adapter_model.bin",
    "width": "is changed by [576, 577], the base model's is [576, 576]",
}


@pytest.mark.parametrize("kind", list(REASONS))
def test_refused_version_changes_nothing(
    server: ServerProcess, registry: Registry, versions: dict[int, Manifest], kind: str
) -> None:
    """Each bad version is refused with its reason, and the good one goes on answering."""
    promote(registry, "acme", 2)
    server.wait(lambda: server.readiness["adapters"]["acme"]["serving"] == "acme@2", 10)
    bad = publish_variant(registry, versions[1], kind=kind)
    name = f"acme@{bad.version}"
    promote(registry, "acme", bad.version)
    server.wait(lambda: name in server.readiness["adapters"]["acme"]["refused"], 30)
    readiness = server.readiness
    assert REASONS[kind] in readiness["adapters"]["acme"]["refused"][name]
    assert (readiness["status"], readiness["adapters"]["acme"]["serving"]) == ("degraded", "acme@2")
    assert ask(server, "acme") == ("acme@2", ANSWERS[2])
    with pytest.raises(openai.NotFoundError):
        ask(server, name)


def test_fifty_bad_versions_under_traffic_harm_no_request(
    server: ServerProcess,
    registry: Registry,
    versions: dict[int, Manifest],
    record_property: Callable[[str, object], None],
) -> None:
    """Published and promoted one after another, each looked at, some loaded and probed: the good version answers all, and no slower.

    How long answers take is asked once they are published, for to hash and sync them takes the test one of the cores. They are promoted ten at
    a time, two for each answer, between answers with nothing beside them but the test's looks at the readiness, which alone take a twelfth: what
    else the machine does falls on both.
    """
    promote(registry, "acme", 2)
    server.wait(lambda: server.readiness["adapters"]["acme"]["serving"] == "acme@2", 10)
    usual = [kind for kind in REASONS if kind != "nothing"]
    kinds = [usual[number % len(usual)] if number % 17 else "nothing" for number in range(50)]
    meanwhile, refusals = _Asked(server), _refusals(server)
    bad: list[int] = []
    with meanwhile.asking():
        for kind in kinds:
            wanted = len(meanwhile.seconds) + len(bad) % 2
            bad.append(publish_variant(registry, versions[1], kind=kind).version)
            server.wait(lambda: len(meanwhile.seconds) >= wanted)  # noqa: B023 - called at once
        server.wait(lambda: f"acme@{bad[-1]}" in server.readiness["adapters"]["acme"]["refused"], 30)
    record_property("answers_while_publishing", len(meanwhile.seconds))
    record_property("refused_while_publishing", _refusals(server) - refusals)
    refusals = _refusals(server)
    alone, beside = _Asked(server), _Asked(server)
    for first in range(0, len(bad), 10):
        with alone.asking():
            server.wait(lambda: server.readiness and len(alone.seconds) >= 6 * (1 + first // 10))  # noqa: B023 - called at once
        with beside.asking():
            for version in bad[first : first + 10]:
                wanted = len(beside.seconds) + version % 2
                promote(registry, "acme", version)
                server.wait(lambda: f"acme@{version}" in server.readiness["adapters"]["acme"]["refused"], 30)  # noqa: B023
                server.wait(lambda: server.readiness and len(beside.seconds) >= wanted)  # noqa: B023
    medians = [statistics.median(asked.seconds) for asked in (alone, beside)]
    slow = [statistics.quantiles(asked.seconds, n=10)[-1] for asked in (alone, beside)]
    slowest = [max(asked.seconds) for asked in (alone, beside)]
    record_property("answers", [len(alone.seconds), len(beside.seconds)])
    record_property("median_seconds", [round(seconds, 3) for seconds in medians])
    record_property("slow_seconds", [round(seconds, 3) for seconds in slow])
    record_property("slowest_seconds", [round(seconds, 3) for seconds in slowest])
    assert meanwhile.failures + alone.failures + beside.failures == []
    assert set(meanwhile.seen + alone.seen + beside.seen) == {("acme@2", ANSWERS[2])}
    assert _refusals(server) - refusals >= len(bad) - 1  # the last was the newest, and looked at before
    assert medians[1] < 1.2 * medians[0]
    assert slow[1] < 2 * slow[0]
    assert slowest[1] < 4 * slowest[0]  # of so few a single one may be the machine's
    assert "acme@2" in server.names()


def _refusals(server: ServerProcess) -> int:
    return server.log.read_text().count("adapter version refused")


class _Asked:
    """What two clients that ask for the alias without a pause get, and how long each answer takes."""

    def __init__(self, server: ServerProcess) -> None:
        self.seen: list[tuple[str, str]] = []
        self.seconds: list[float] = []
        self.failures: list[BaseException] = []
        self._server = server

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        """Both ask; at the end what they began with is answered, too."""
        over = threading.Event()
        threads = [threading.Thread(target=self._ask, args=(over,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            over.set()
            for thread in threads:
                thread.join()

    def _ask(self, over: threading.Event) -> None:
        while not over.is_set():
            begun = time.monotonic()
            try:
                self.seen.append(ask(self._server, "acme"))
            except BaseException as error:  # noqa: BLE001 - collected, and asserted to be none
                self.failures.append(error)
            self.seconds.append(time.monotonic() - begun)


def test_deleted_version_keeps_answering(server: ServerProcess, registry: Registry) -> None:
    """The engine holds what it serves: it never reads a version's folder again."""
    promote(registry, "acme", 2)
    server.wait(lambda: server.readiness["adapters"]["acme"]["serving"] == "acme@2", 10)
    folder = registry.folder("acme", 2)
    aside = folder.with_name(".aside")
    shutil.move(folder, aside)
    try:
        server.wait(lambda: "acme@2 is gone from the registry" in str(server.readiness["problems"]), 10)
        time.sleep(2.5)  # at least another look at the registry
        assert ask(server, "acme") == ("acme@2", ANSWERS[2])
    finally:
        shutil.move(aside, folder)


def test_lost_registry_keeps_answering(server: ServerProcess, registry: Registry) -> None:
    """The volume is unmounted: readiness says where to look, and what was loaded answers; then it is back."""
    promote(registry, "acme", 2)
    server.wait(lambda: server.readiness["adapters"]["acme"]["serving"] == "acme@2", 10)
    said = f"{registry.root}: holds no adapter any more; check the volume"
    aside = registry.root.with_name("registry.aside")
    registry.root.rename(aside)
    registry.root.mkdir()  # the empty folder that a volume was mounted on
    try:
        server.wait(lambda: said in str(server.readiness["problems"]), 10)
        assert server.readiness["status"] == "degraded"
        assert ask(server, "acme") == ("acme@2", ANSWERS[2])
    finally:
        registry.root.rmdir()
        aside.rename(registry.root)
    server.wait(lambda: said not in str(server.readiness["problems"]), 10)
    assert ask(server, "acme") == ("acme@2", ANSWERS[2])


def test_full_registry_keeps_answering(
    server: ServerProcess, registry: Registry, versions: dict[int, Manifest]
) -> None:
    """On a real file system without room a version and a pointer are written whole or not at all, and clients notice nothing of it."""
    promote(registry, "acme", 2)
    server.wait(lambda: server.readiness["adapters"]["acme"]["serving"] == "acme@2", 10)
    published = registry.versions("acme")
    weights = (registry.folder("acme", 1) / "adapter_model.safetensors").stat().st_size
    asked = _Asked(server)
    with small(registry.root, 256) as volume, asked.asking():
        before = tree(registry.root)
        for room in (0, weights // 2, weights + (2 << 12)):  # none, not for the weights, not for the manifest
            volume.fill(but=room)
            with pytest.raises((OSError, RegistryError), match="No space left on device"):
                publish_variant(registry, versions[1], kind="")
            volume.clear()
        volume.fill(but=0)
        with pytest.raises((OSError, RegistryError), match="No space left on device"):
            promote(registry, "acme", 1)
        count = len(asked.seen)
        server.wait(lambda: len(asked.seen) > count + 3)
        readiness = server.readiness
        volume.clear()
        assert tree(registry.root) == before
    assert asked.failures == []
    assert set(asked.seen) == {("acme@2", ANSWERS[2])}
    assert (readiness["adapters"]["acme"]["serving"], registry.versions("acme")) == ("acme@2", published)
