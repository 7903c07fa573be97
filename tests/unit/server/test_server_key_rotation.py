"""Rotation: another secret under the same name, and the old one for as long as the operator says."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from services.server.__main__ import main
from services.server.keys import Key, KeyFile, KeysError
from tests.unit.server.fakes import BASE
from tests.unit.server.harness import Server

BODY = {"model": BASE, "messages": [{"role": "user", "content": "hi"}]}
NONE = timedelta()
HOUR = timedelta(hours=1)


@pytest.fixture
def keys(tmp_path: Path) -> KeyFile:
    """An empty file."""
    return KeyFile(tmp_path / "keys" / "keys.json")


def _now(keys: KeyFile, secret: str, *, later: timedelta = NONE) -> Key | None:
    keys.load()
    return keys.find(secret, datetime.now(UTC) + later)


async def test_a_running_server_takes_the_new_secret_at_once(server: Server) -> None:
    """The next request with the old one is 401, and with the new one 200."""
    keys = KeyFile(server.plan.paths.keys / "keys.json")
    old = keys.add("app", ["*"], None)
    assert (await server.ask(body=BODY, headers={"authorization": f"Bearer {old}"})).status == 200
    new = keys.rotate("app", grace=NONE)
    assert (await server.ask(body=BODY, headers={"authorization": f"Bearer {old}"})).status == 401
    assert (await server.ask(body=BODY, headers={"authorization": f"Bearer {new}"})).status == 200


def test_all_but_the_secret_stays(keys: KeyFile) -> None:
    """Name, models, roles and end; another end where one is given."""
    ends = datetime.now(UTC) + timedelta(days=9)
    old = keys.add("app", ["acme"], ends, roles=["fine-tuning"])
    new = keys.rotate("app", grace=NONE)
    found = _now(keys, new)
    assert found is not None
    assert old != new
    assert (found.name, found.models, found.roles) == ("app", ["acme"], ["fine-tuning"])
    assert found.expires == ends.isoformat(timespec="seconds")
    found = _now(keys, keys.rotate("app", grace=NONE, expires=ends + HOUR))
    assert found is not None
    assert found.expires == (ends + HOUR).isoformat(timespec="seconds")


def test_the_old_secret_counts_for_its_grace(keys: KeyFile) -> None:
    """Beside the new one, and no longer."""
    old = keys.add("app", ["*"], None)
    new = keys.rotate("app", grace=HOUR)
    assert _now(keys, old) is not None
    assert _now(keys, old, later=HOUR - timedelta(seconds=5)) is not None
    assert _now(keys, old, later=HOUR) is None
    assert _now(keys, new, later=HOUR) is not None


def test_grace_lengthens_nothing(keys: KeyFile) -> None:
    """A secret that ends sooner ends then; neither does a second rotation give the first secret more time."""
    first = keys.add("app", ["*"], None)
    second = keys.rotate("app", grace=HOUR)
    third = keys.rotate("app", grace=5 * HOUR)
    for secret, hours in ((first, 1), (second, 5)):
        assert _now(keys, secret, later=hours * HOUR - timedelta(seconds=5)) is not None
        assert _now(keys, secret, later=hours * HOUR) is None
    assert _now(keys, third, later=9 * HOUR) is not None


def test_rotation_without_grace_and_revocation_end_every_secret(keys: KeyFile) -> None:
    """Of those that were left some time, too: what leaked is out."""
    first = keys.add("app", ["*"], None)
    second = keys.rotate("app", grace=HOUR)
    third = keys.rotate("app", grace=NONE)
    assert [_now(keys, secret) is None for secret in (first, second, third)] == [True, True, False]
    fourth = keys.rotate("app", grace=HOUR)
    keys.revoke("app")
    assert _now(keys, third) is None
    assert _now(keys, fourth) is None


def test_only_a_key_that_counts_is_rotated(keys: KeyFile) -> None:
    """An unknown, a revoked and an expired one are not brought back, and a name stays taken while one of its secrets counts."""
    keys.add("old", ["*"], datetime.now(UTC) - HOUR)
    keys.add("gone", ["*"], None)
    keys.revoke("gone")
    keys.add("ending", ["*"], None)
    keys.rotate(
        "ending", grace=HOUR, expires=datetime.now(UTC) - HOUR
    )  # an operator's slip: what is left is in its grace
    for name in ("nobody", "old", "gone", "ending"):
        with pytest.raises(KeysError, match="make keys"):
            keys.rotate(name, grace=HOUR)
    with pytest.raises(KeysError, match="make revoke NAME=ending"):
        keys.add("ending", ["*"], None)


def test_rotate_verb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The new key is printed once; the list tells the secrets of one name apart; a grace that is none is refused."""
    monkeypatch.setenv("WHETSTONE_DATA", str(tmp_path))
    assert main(["key", "add", "app"]) == 0
    old = capsys.readouterr().out.strip()
    assert main(["key", "rotate", "app", "--grace", "24h"]) == 0
    new = capsys.readouterr().out.strip()
    file = tmp_path / "keys" / "keys.json"
    assert new not in file.read_text()
    keys = KeyFile(file)
    assert _now(keys, old, later=timedelta(hours=23)) is not None
    assert _now(keys, new) is not None
    assert main(["key", "list"]) == 0
    assert [line.split("\t")[1] for line in capsys.readouterr().out.splitlines()] == [
        "replaced, counts still",
        "counts",
    ]
    assert main(["key", "rotate", "app"]) == 0
    capsys.readouterr()
    assert main(["key", "list"]) == 0
    states = [line.split("\t")[1] for line in capsys.readouterr().out.splitlines()]
    assert states == ["replaced", "replaced", "counts"]
    assert main(["key", "rotate", "nobody"]) == 1
    for wrong in ("a day", "1.5h", "-1h", "24"):
        with pytest.raises(SystemExit):
            main(["key", "rotate", "app", f"--grace={wrong}"])
        assert "such as 30m, 24h or 7d" in capsys.readouterr().err
