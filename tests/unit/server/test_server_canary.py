"""A version on a share of the users: who gets it, and how it ends, by the operator or by itself."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from services.common.paths import DataPaths
from services.registry.canary import begin_canary, end_canary
from services.registry.pointer import promote, rollback
from tests.unit.server.harness import Server, publish_version

USERS = [f"user-{number}" for number in range(400)]


@pytest.fixture
async def trying(server: Server) -> Server:
    """``acme@2`` in service after ``acme@1``, and ``acme@3`` for a third of the users."""
    for _ in range(3):
        publish_version(server.registry)
    promote(server.registry, "acme", 1)
    promote(server.registry, "acme", 2)
    begin_canary(server.registry, "acme", 3, 33)
    await server.reconcile()
    return server


async def _version(server: Server, model: str = "acme", **fields: Any) -> str:
    return str((await server.chat(model=model, **fields)).json.get("model"))


async def _versions(server: Server) -> Counter[str]:
    return Counter([await _version(server, user=user) for user in USERS])


def _canary_users(server: Server) -> list[str]:
    canary = server.services.catalogue.entries["acme"].canary
    assert canary is not None
    return [user for user in USERS if canary.takes(user)]


async def test_about_that_share_of_the_users_gets_the_canary_and_each_always_the_same(trying: Server) -> None:
    """By the user that the app names, whichever field it names it in; the answer says which version it was."""
    first = {user: await _version(trying, user=user) for user in USERS}
    assert set(first.values()) == {"acme@2", "acme@3"}
    assert 0.25 < Counter(first.values())["acme@3"] / len(USERS) < 0.41
    assert {user: await _version(trying, user=user) for user in USERS} == first
    assert {user: await _version(trying, safety_identifier=user) for user in USERS[:50]} == {
        user: first[user] for user in USERS[:50]
    }


async def test_an_app_that_names_no_user_stays_on_one_version(trying: Server) -> None:
    """It is its key that is one user then."""
    assert len({await _version(trying) for _ in range(30)}) == 1


async def test_a_pinned_name_gets_what_it_names(trying: Server) -> None:
    for version in ("acme@2", "acme@3"):
        assert {await _version(trying, version, user=user) for user in USERS[:40]} == {version}


@pytest.mark.parametrize("ending", ["end", "promote", "rollback"])
async def test_the_operator_ends_it_and_everyone_gets_one_version(trying: Server, ending: str) -> None:
    """By PERCENT=0, or with the next move of the pointer, in one reconciliation."""
    registry = trying.registry
    {"end": end_canary, "promote": lambda *_: promote(registry, "acme", 3), "rollback": rollback}[ending](
        registry, "acme"
    )
    await trying.reconcile()
    assert set(await _versions(trying)) == {{"end": "acme@2", "promote": "acme@3", "rollback": "acme@1"}[ending]}


async def test_a_canary_that_is_refused_changes_nothing(server: Server) -> None:
    """It was made for another base: nobody gets it, and the reason stands where the operator looks."""
    publish_version(server.registry)
    publish_version(server.registry, fingerprint="0" * 64)
    promote(server.registry, "acme", 1)
    begin_canary(server.registry, "acme", 2, 50)
    await server.reconcile()
    assert set(await _versions(server)) == {"acme@1"}
    assert "another base model" in (await server.ask("/readyz")).json["problems"][0]


async def test_a_canary_that_fails_ends_by_itself_under_load(trying: Server) -> None:
    """After a few of its requests failed, every user gets the version in service, none of whose requests failed."""
    trying.engine.failing.add("acme@3")
    theirs, others = _canary_users(trying), [user for user in USERS if user not in _canary_users(trying)]
    statuses: Counter[tuple[bool, int]] = Counter()

    async def ask(user: str) -> None:
        statuses[user in theirs, (await trying.chat(model="acme", user=user)).status] += 1

    for start in range(0, 120, 4):
        await asyncio.gather(*(ask(user) for user in [*theirs[start : start + 2], *others[start : start + 2]]))
    assert statuses[False, 200] > 0
    assert statuses[False, 500] == 0
    assert 3 <= statuses[True, 500] <= 5, "more than a fifth of ten, and those under way meanwhile"
    assert set(await _versions(trying)) == {"acme@2"}
    readiness = (await trying.ask("/readyz")).json
    assert readiness["status"] == "degraded"
    assert "its canary ended by itself: 3 of its last 3 requests failed" in readiness["problems"][0]
    assert b'whetstone_canary_trips_total{adapter="acme"} 1.0' in (await trying.ask("/metrics")).body


@pytest.mark.parametrize(
    "content", [b"{", b'{"\xff": {}}', b'{"a": {"unknown": ' + b"[" * 5000], ids=["cut", "byte", "deep"]
)
async def test_a_damaged_memory_of_canaries_keeps_no_server_from_its_start(tmp_path: Path, content: bytes) -> None:
    """It is told in the log, and the server answers."""
    file = DataPaths(tmp_path).canary_trips
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    server = Server(tmp_path)
    assert (await server.chat()).status == 200
    server.model.renderer.close()


async def test_a_canary_whose_answers_do_not_end_ends_by_itself(trying: Server) -> None:
    """Compared with the version in service meanwhile, whose answers do."""
    trying.engine.endless.add("acme@3")
    seen = await _versions(trying)
    assert seen["acme@3"] >= 10
    canary = trying.services.catalogue.entries["acme"].canary
    assert canary is not None
    assert canary.tripped is not None
    assert "did not end by themselves, of the version in service 0%" in canary.tripped


async def test_who_pins_the_canary_is_none_of_its_users(trying: Server) -> None:
    """Somebody who tries it out with odd requests does not take it from them."""
    trying.engine.failing.add("acme@3")
    for _ in range(20):
        assert (await trying.chat(model="acme@3")).status == 500
    canary = trying.services.catalogue.entries["acme"].canary
    assert canary is not None
    assert canary.tripped is None


async def test_a_larger_share_keeps_the_users_who_have_it(trying: Server) -> None:
    """Nobody goes back to the other version because more get the new one."""
    before = set(_canary_users(trying))
    begin_canary(trying.registry, "acme", 3, 60)
    await trying.reconcile()
    after = set(_canary_users(trying))
    assert before < after
    assert 0.5 < len(after) / len(USERS) < 0.7


async def test_faults_of_clients_and_of_a_stopping_server_are_not_the_canarys(trying: Server) -> None:
    """Wrong requests and 503s say nothing of a version."""
    user = _canary_users(trying)[0]
    for _ in range(30):
        assert (await trying.chat(model="acme", user=user, temperature=9)).status == 400
    trying.engine.dead = "killed"
    for _ in range(30):
        assert (await trying.chat(model="acme", user=user)).status == 503
    canary = trying.services.catalogue.entries["acme"].canary
    assert canary is not None
    assert canary.tripped is None


async def test_what_ended_by_itself_stays_ended_over_a_restart(trying: Server, tmp_path: Path) -> None:
    """And a canary that the operator begins anew starts with a clean sheet."""
    trying.engine.failing.add("acme@3")
    for user in _canary_users(trying)[:12]:
        await trying.chat(model="acme", user=user)
    again = Server(tmp_path)
    await again.reconcile()
    assert set(await _versions(again)) == {"acme@2"}
    assert "ended by itself" in (await again.ask("/readyz")).json["problems"][0]
    begin_canary(again.registry, "acme", 3, 33)
    await again.reconcile()
    assert set(await _versions(again)) == {"acme@2", "acme@3"}
    again.model.renderer.close()


async def test_a_reconciliation_in_between_forgets_nothing(trying: Server) -> None:
    """What was seen of a canary's answers counts on."""
    trying.engine.failing.add("acme@3")
    users = _canary_users(trying)
    for user in users[:2]:
        await trying.chat(model="acme", user=user)
    await trying.reconcile()
    await trying.chat(model="acme", user=users[2])
    canary = trying.services.catalogue.entries["acme"].canary
    assert canary is not None
    assert canary.tripped is not None
