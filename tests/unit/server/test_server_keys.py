"""Keys: made once, stored as a hash, compared in constant time, effective at once."""

import hmac
import json
import os
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import structlog

from services.registry.lock import exclusive
from services.registry.pointer import promote
from services.server import auth
from services.server import keys as keys_module
from services.server.__main__ import main
from services.server.errors import StartRefused
from services.server.keys import KeyFile, KeysError
from tests.unit.server.fakes import BASE
from tests.unit.server.harness import Server, publish_version

BODY = {"model": BASE, "messages": [{"role": "user", "content": "hi"}]}
LATER = datetime.now(UTC) + timedelta(hours=1)


def _file(server: Server) -> KeyFile:
    return KeyFile(server.plan.paths.keys / "keys.json")


def _bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


async def test_without_keys_everyone_may_ask(server: Server) -> None:
    """Keyless, on loopback; any key that a client sends is ignored."""
    assert (await server.chat()).status == 200
    assert (await server.ask(body=BODY, headers=_bearer("whatever"))).status == 200


async def test_first_key_closes_the_door_at_once(server: Server) -> None:
    """From the moment a key exists: 401 ``invalid_api_key`` without it, on every /v1 route."""
    key = _file(server).add("app", ["*"], None)
    for headers in (
        {},
        _bearer("wrong"),
        _bearer(""),
        {"authorization": f"Basic {key}"},
        _bearer(key + "x"),
        _bearer("키"),
    ):
        sent = {name: value.encode().decode("latin-1") for name, value in headers.items()}
        for path, body in (
            ("/v1/chat/completions", BODY),
            ("/v1/completions", {}),
            ("/v1/models", None),
            (f"/v1/models/{BASE}", None),
        ):
            answer = await server.ask(path, body, headers=sent)
            assert answer.status == 401
            assert answer.error["code"] == "invalid_api_key"
    assert (await server.ask(body=BODY, headers=_bearer(key))).status == 200


async def test_revoked_and_expired_keys_do_not_count(server: Server) -> None:
    """Both at once, without a restart; and the last revoked key does not open the door to everyone."""
    file = _file(server)
    key = file.add("app", ["*"], None)
    old = file.add("old", ["*"], datetime.now(UTC) - timedelta(seconds=1))
    assert (await server.ask(body=BODY, headers=_bearer(old))).status == 401
    assert (await server.ask(body=BODY, headers=_bearer(key))).status == 200
    file.revoke("app")
    assert (await server.ask(body=BODY, headers=_bearer(key))).status == 401
    assert (await server.chat()).status == 401


async def test_key_without_the_model_is_403(server: Server) -> None:
    """A key covers the base or adapters by name, with all their versions; the list shows only those."""
    publish_version(server.registry)
    publish_version(server.registry, "beta")
    promote(server.registry, "acme", 1)
    promote(server.registry, "beta", 1)
    await server.reconcile()
    headers = _bearer(_file(server).add("app", ["acme"], LATER))
    for model, status in (("acme", 200), ("acme@1", 200), ("beta", 403), ("beta@1", 403), (BASE, 403), ("nobody", 403)):
        answer = await server.ask(body={**BODY, "model": model}, headers=headers)
        assert answer.status == status, model
        if status == 403:
            assert answer.error["code"] == "model_not_found"
            assert (await server.ask(f"/v1/models/{model}", headers=headers)).status == 403
    listed = (await server.ask("/v1/models", headers=headers)).json["data"]
    assert [card["id"] for card in listed] == ["acme", "acme@1"]


async def test_every_key_is_compared_in_constant_time(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """All keys are compared, by ``hmac.compare_digest`` on hashes, whichever matches."""
    file = _file(server)
    first = file.add("a", ["*"], None)
    file.add("b", ["*"], None)
    compared = []

    class Counting:
        @staticmethod
        def compare_digest(left: str, right: str) -> bool:
            compared.append((len(left), len(right)))
            return hmac.compare_digest(left, right)

    monkeypatch.setattr(keys_module, "hmac", Counting)
    await server.ask(body=BODY, headers=_bearer(first))
    await server.ask(body=BODY, headers=_bearer("wrong"))
    assert compared == [(64, 64)] * 4


@pytest.mark.parametrize("loss", ["damaged", "gone"])
async def test_lost_keys_file_opens_nothing(server: Server, loss: str) -> None:
    """A file that breaks or vanishes leaves the keys read before in force, and readiness says so."""
    file = _file(server)
    key = file.add("app", ["*"], None)
    assert (await server.ask(body=BODY, headers=_bearer(key))).status == 200
    if loss == "damaged":
        file.file.write_text("{")
    else:
        file.file.unlink()
    assert (await server.chat()).status == 401
    assert (await server.ask(body=BODY, headers=_bearer(key))).status == 200
    assert any("keys.json" in problem for problem in (await server.ask("/readyz")).json["problems"])


async def test_details_are_for_this_machine_or_a_key(server: Server) -> None:
    """From elsewhere without a key: readiness is one word, metrics are 401; 403 with a key that is no admin's."""
    key = _file(server).add("ops", ["*"], None, roles=["admin"])
    app = _bearer(_file(server).add("app", ["*"], None, roles=["inference", "fine-tuning"]))
    assert (await server.ask("/readyz", address="10.0.0.9", headers=app)).json == {"status": "ready"}
    refused = await server.ask("/metrics", address="10.0.0.9", headers=app)
    assert (refused.status, refused.error["code"]) == (403, "missing_scope")
    assert (await server.ask("/readyz", address="10.0.0.9")).json == {"status": "ready"}
    assert (await server.ask("/metrics", address="10.0.0.9")).status == 401
    for headers, address in ((_bearer(key), "10.0.0.9"), ({}, "127.0.0.1"), ({}, "::1")):
        assert "base" in (await server.ask("/readyz", headers=headers, address=address)).json
        metrics = await server.ask("/metrics", headers=headers, address=address)
        assert b"whetstone_requests" in metrics.body
        assert b"vllm:num_requests_running" in metrics.body


def test_keyless_server_on_a_network_refuses_to_start(tmp_path: Path) -> None:
    """Without a key only loopback is served, with a warning."""
    with pytest.raises(StartRefused, match="make key"):
        Server(tmp_path, host="0.0.0.0")  # noqa: S104 - the point
    with structlog.testing.capture_logs() as said:
        Server(tmp_path)
    assert "everyone on this machine may use the server" in said[0]["event"]
    KeyFile(tmp_path / "keys" / "keys.json").add("app", ["*"], None)
    Server(tmp_path, host="0.0.0.0")  # noqa: S104


def test_server_with_damaged_keys_refuses_to_start(tmp_path: Path) -> None:
    """No keys read before means nothing to fall back on."""
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "keys.json").write_text("{")
    with pytest.raises(StartRefused, match=r"keys\.json"):
        Server(tmp_path)


def test_key_verbs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The key is printed once and stored nowhere; the file is not for everyone when root or the server writes it."""
    monkeypatch.setenv("WHETSTONE_DATA", str(tmp_path))
    assert main(["key", "add", "app", "--models", "acme, tiny", "--expires", "2999-01-01"]) == 0
    key = capsys.readouterr().out.strip()
    assert len(key) == len("ws-") + 43
    file = tmp_path / "keys" / "keys.json"
    stored = file.read_text()
    assert key not in stored
    assert json.loads(stored)["keys"][0]["models"] == ["acme", "tiny"]
    if os.getuid() == 0:
        assert (file.stat().st_mode & 0o777, file.stat().st_gid) == (0o640, 10001)
    assert main(["key", "add", "app"]) == 1
    assert "revoke it first" in capsys.readouterr().err
    assert main(["key", "list"]) == 0
    assert "2999-01-01" in capsys.readouterr().out
    assert main(["key", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["sha256"] == ""
    assert main(["key", "revoke", "app"]) == 0
    assert main(["key", "revoke", "app"]) == 1
    assert main(["key", "add", "app"]) == 0


@pytest.mark.parametrize("name", [auth.KEYLESS.name, auth.GATE.name])
def test_names_of_callers_without_a_key_are_no_keys_names(tmp_path: Path, name: str) -> None:
    """Else the key would own what they stored."""
    keys = KeyFile(tmp_path / "keys.json")
    with pytest.raises(KeysError, match="choose another name"):
        keys.add(name, ["*"], None)
    assert keys.load() == []


def test_keys_made_at_once_are_all_kept(tmp_path: Path) -> None:
    """Every key that was printed counts, however many operators make one in the same moment."""
    file = tmp_path / "keys" / "keys.json"
    made: dict[str, str] = {}
    together = threading.Barrier(6)

    def make(name: str) -> None:
        together.wait()
        made[name] = KeyFile(file).add(name, ["*"], None)

    makers = [threading.Thread(target=make, args=(f"app-{number}",)) for number in range(6)]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()
    keys = KeyFile(file)
    assert {key.name for key in keys.load()} == {f"app-{number}" for number in range(6)}
    for name, secret in made.items():
        found = keys.find(secret, datetime.now(UTC))
        assert found is not None
        assert found.name == name


def test_a_writer_waits_for_the_one_before(tmp_path: Path) -> None:
    """A key is revoked or made only once the other writer has let go, and a refusal lets go too."""
    keys = KeyFile(tmp_path / "keys.json")
    keys.add("app", ["*"], None)
    with pytest.raises(KeysError, match="make revoke NAME=app"):
        keys.add("app", ["*"], None)
    with exclusive(tmp_path / ".lock", "key add"):
        revoking = threading.Thread(target=keys.revoke, args=("app",))
        revoking.start()
        revoking.join(0.3)
        assert revoking.is_alive()
        assert KeyFile(keys.file).load()[0].revoked is None
    revoking.join(5)
    assert KeyFile(keys.file).load()[0].revoked is not None


def test_a_day_that_is_none_is_refused_with_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    """``EXPIRES=`` in another notation makes no key."""
    with pytest.raises(SystemExit) as ended:
        main(["key", "add", "app", "--expires", "31.1.2027"])
    assert ended.value.code == 2
    assert "such as 2027-01-31" in capsys.readouterr().err


def test_unreadable_file_names_the_user(tmp_path: Path) -> None:
    """The error says which user must be able to read what."""
    (tmp_path / "keys.json").mkdir()
    with pytest.raises(KeysError, match=r"keys\.json"):
        KeyFile(tmp_path / "keys.json").load()
