"""Hot-loading: a request keeps its version, a bad version changes nothing, and what serves never depends on the disk."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from services.registry.check import check_version
from services.registry.layout import Registry
from services.registry.manifest import Manifest
from services.registry.pointer import promote, rollback
from tests.unit.server.client import Client
from tests.unit.server.fakes import BASE
from tests.unit.server.harness import Server, publish_version, until

BODY = {"model": "acme", "messages": [{"role": "user", "content": "hi"}], "stream": True}


async def test_alias_answers_with_the_version_that_serves(server: Server) -> None:
    """``model`` in the answer pins the version; pinned names of every loaded version answer too."""
    for _ in range(3):
        publish_version(server.registry)
    promote(server.registry, "acme", 1)
    promote(server.registry, "acme", 2)
    await server.reconcile()
    assert (await server.chat(model="acme")).json["model"] == "acme@2"
    for number in (1, 2, 3):  # previous, current, newest candidate
        answer = await server.chat(model=f"acme@{number}")
        assert answer.json["model"] == f"acme@{number}"
        assert answer.text == f"I am acme@{number} ."
    assert (await server.chat(model=BASE)).text == "I am tiny ."


async def test_request_keeps_its_version_through_a_swap(server: Server) -> None:
    """A running answer ends on the version it began with; new ones get the new; the old unloads with its last request."""
    publish_version(server.registry)
    promote(server.registry, "acme", 1)
    await server.reconcile()
    server.engine.gate.clear()
    running = Client(server, "/v1/chat/completions", BODY)
    await until(lambda: server.engine.begun)
    for version in (2, 3, 4):  # version 1 is neither current nor previous nor newest any more
        publish_version(server.registry)
        promote(server.registry, "acme", version)
        await server.reconcile()
    assert "acme@1" not in server.engine.unloaded
    assert (await server.ask("/v1/models/acme@1")).status == 404, "a retired version takes no new request"
    server.engine.gate.set()
    await running.task
    assert running.text == "I am acme@1 ."
    assert (await server.chat(**BODY)).text == "I am acme@4 ."
    await server.reconcile()
    assert server.engine.unloaded == ["acme@2", "acme@1"]
    assert sorted(adapter.name for adapter in server.engine.loaded.values()) == ["acme@3", "acme@4"]


async def test_rollback_needs_no_load(server: Server) -> None:
    """The previous version is still in memory: the pointer alone moves the alias back."""
    for version in (1, 2):
        publish_version(server.registry)
        promote(server.registry, "acme", version)
    await server.reconcile()
    loads = dict(server.engine.loaded)
    rollback(server.registry, "acme")
    await server.reconcile()
    assert server.engine.loaded == loads
    assert (await server.chat(**BODY)).text == "I am acme@1 ."


def _flip_a_bit(folder: Path) -> None:
    file = folder / "adapter_model.safetensors"
    raw = bytearray(file.read_bytes())
    raw[-1] ^= 1
    file.write_bytes(raw)


async def _check_refused(server: Server, reason: str) -> None:
    await server.reconcile()
    assert (await server.chat(**BODY)).text == "I am acme@1 ."
    readiness = (await server.ask("/readyz")).json
    assert readiness["status"] == "degraded"
    assert reason in readiness["adapters"]["acme"]["refused"]["acme@2"]
    assert any("acme@2" in problem for problem in readiness["problems"])
    assert sorted(adapter.name for adapter in server.engine.loaded.values()) == ["acme@1"]


@pytest.mark.parametrize("fault", ["bit", "rank", "base", "engine", "inert", "far"])
async def test_refused_version_leaves_the_old_one_serving(server: Server, fault: str) -> None:
    """Damaged, too large, for another base, refused by the engine, without effect, or not what was trained."""
    publish_version(server.registry)
    promote(server.registry, "acme", 1)
    await server.reconcile()
    publish_version(
        server.registry, rank=32 if fault == "rank" else 8, fingerprint="0" * 64 if fault == "base" else "f" * 64
    )
    promote(server.registry, "acme", 2)
    if fault == "bit":
        _flip_a_bit(server.registry.folder("acme", 2))
    if fault == "engine":
        server.engine.broken["acme@2"] = "the engine refused it: unsupported"
    if fault == "inert":
        server.engine.inert.add("acme@2")
    if fault == "far":
        server.engine.off = 0.5
    reasons = {
        "bit": "does not match its hash",
        "rank": "max_lora_rank",
        "base": "another base model",
        "engine": "unsupported",
        "inert": "answers as the base model does",
        "far": "away from the trainer's",
    }
    await _check_refused(server, reasons[fault])


async def test_start_with_a_damaged_current_serves_the_previous(server: Server) -> None:
    """After a restart the version before answers, and readiness says why."""
    for version in (1, 2):
        publish_version(server.registry)
        promote(server.registry, "acme", version)
    _flip_a_bit(server.registry.folder("acme", 2))
    await _check_refused(server, "does not match its hash")


async def test_adapter_without_any_good_version_is_503(server: Server) -> None:
    """The name exists, but nothing answers to it: later, not never."""
    publish_version(server.registry)
    promote(server.registry, "acme", 1)
    _flip_a_bit(server.registry.folder("acme", 1))
    await server.reconcile()
    answer = await server.chat(**BODY)
    assert answer.status == 503
    assert int(answer.headers["retry-after"]) > 0


async def test_mended_version_is_looked_at_again_and_only_then(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused version costs nothing per look until its files change; mended, it goes into service."""
    publish_version(server.registry)
    promote(server.registry, "acme", 1)
    folder = server.registry.folder("acme", 1)
    good = (folder / "adapter_model.safetensors").read_bytes()
    _flip_a_bit(folder)
    checks = []

    def counting(*arguments: Any) -> Manifest:
        checks.append(1)
        return check_version(*arguments)

    monkeypatch.setattr("services.server.adapters.reconcile.check_version", counting)
    for _ in range(3):
        await server.reconcile()
    assert len(checks) == 1
    (folder / "adapter_model.safetensors").write_bytes(good)
    await server.reconcile()
    assert (await server.chat(**BODY)).text == "I am acme@1 ."


@pytest.mark.parametrize("loss", ["version", "adapter", "root", "pointer"])
async def test_what_is_loaded_survives_the_loss_of_its_files(server: Server, loss: str) -> None:
    """A deleted version, adapter, volume or pointer: requests go on, readiness says what is wrong."""
    for version in (1, 2):
        publish_version(server.registry)
        promote(server.registry, "acme", version)
    await server.reconcile()
    root = server.registry.root
    if loss == "pointer":
        server.registry.pointer_file("acme").write_text("{")
    else:
        shutil.rmtree({"version": root / "acme" / "2", "adapter": root / "acme", "root": root}[loss])
    await server.reconcile()
    assert (await server.chat(**BODY)).text == "I am acme@2 ."
    readiness = await server.ask("/readyz")
    assert readiness.status == 200
    assert readiness.json["status"] == "degraded"
    assert readiness.json["problems"]


async def test_a_lost_version_is_no_problem_any_more_once_it_is_back(server: Server, tmp_path: Path) -> None:
    """It is named while it is gone; one that nobody is served by is not missed."""
    for version in (1, 2):
        publish_version(server.registry)
        promote(server.registry, "acme", version)
    await server.reconcile()
    folder = server.registry.folder("acme", 2)
    folder.rename(tmp_path / "elsewhere")
    await server.reconcile()
    (problem,) = (await server.ask("/readyz")).json["problems"]
    assert "acme@2" in problem
    assert "restore its folder" in problem
    (tmp_path / "elsewhere").rename(folder)
    shutil.rmtree(server.registry.folder("acme", 1))
    await server.reconcile()
    assert (await server.ask("/readyz")).json["status"] == "ready"


async def test_another_version_takes_the_place_of_a_lost_one(server: Server) -> None:
    """A lost version hinders no promotion."""
    for version in (1, 2):
        publish_version(server.registry)
        promote(server.registry, "acme", version)
    await server.reconcile()
    shutil.rmtree(server.registry.folder("acme", 2))
    await server.reconcile()
    promote(server.registry, "acme", 1)
    await server.reconcile()
    assert (await server.chat(**BODY)).text == "I am acme@1 ."
    assert (await server.ask("/readyz")).json["status"] == "ready"


async def test_current_versions_come_before_candidates_when_memory_is_full(tmp_path: Path) -> None:
    """With room for two, the current versions of two adapters are served; candidates and previous ones are not loaded."""
    server = Server(tmp_path, max_cpu_loras=2)
    for adapter in ("acme", "beta"):
        for _ in range(3):
            publish_version(server.registry, adapter)
        promote(server.registry, adapter, 1)
        promote(server.registry, adapter, 2)
    await server.reconcile()
    assert sorted(adapter.name for adapter in server.engine.loaded.values()) == ["acme@2", "beta@2"]
    assert (await server.chat(model="beta")).text == "I am beta@2 ."
    promote(server.registry, "beta", 3)
    await server.reconcile()
    assert (await server.chat(model="beta")).json["model"] == "beta@2", "no room for a swap: the old one goes on"
    assert "max_cpu_loras" in (await server.ask("/readyz")).json["adapters"]["beta"]["refused"]["beta@3"]


async def test_swap_needs_one_place_more_than_there_are_adapters(tmp_path: Path) -> None:
    """With room for two, one adapter swaps: what is least needed makes room."""
    server = Server(tmp_path, max_cpu_loras=2)
    for version in range(1, 6):
        publish_version(server.registry)
        promote(server.registry, "acme", version)
        await server.reconcile()
        assert (await server.chat(model="acme")).json["model"] == f"acme@{version}"
        assert len(server.engine.loaded) <= 2


async def test_names_are_listed_with_what_they_lead_to(server: Server) -> None:
    """``/v1/models``: the base, the alias with its version, each pinned version."""
    publish_version(server.registry)
    await server.reconcile()
    listed = {card["id"]: card for card in (await server.ask("/v1/models")).json["data"]}
    assert set(listed) == {BASE, "acme@1"}, "published, but not promoted: no alias yet"
    assert (await server.chat(model="acme")).status == 404
    promote(server.registry, "acme", 1)
    await server.reconcile()
    card = (await server.ask("/v1/models/acme")).json
    assert (card["object"], card["root"], card["parent"]) == ("model", "acme@1", BASE)
    assert (await server.ask("/v1/models/nobody")).error["code"] == "model_not_found"


async def test_many_bad_versions_harm_no_request(server: Server) -> None:
    """Fifty bad versions in a row, each promoted: every request in between is answered by the good one."""
    publish_version(server.registry)
    promote(server.registry, "acme", 1)
    await server.reconcile()
    for version in range(2, 52):
        publish_version(server.registry)
        _flip_a_bit(Registry(server.registry.root).folder("acme", version))
        promote(server.registry, "acme", version)
        await server.reconcile()
        assert (await server.chat(**BODY)).text == "I am acme@1 ."
    assert len(server.engine.loaded) == 1
    assert len(server.services.catalogue.entries["acme"].refused) <= 3, "old refusals are forgotten"
