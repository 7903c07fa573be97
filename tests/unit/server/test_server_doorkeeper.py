"""How often the doorkeeper looks at the keys' file, and what counts in between."""

from pathlib import Path

import pytest

from services.server import auth
from services.server.errors import InvalidApiKey
from services.server.keys import Key, KeyFile
from tests.unit.server.clocks import Clock


def test_the_file_is_looked_at_so_often_however_many_ask(tmp_path: Path) -> None:
    """Once in its interval; but a key that nobody knows is looked for at once, so that who just made it is let in."""

    class Watched(KeyFile):
        looks = 0

        def load(self) -> list[Key]:
            self.looks += 1
            return super().load()

    keys = Watched(tmp_path / "keys.json")
    key = KeyFile(keys.file).add("app", ["*"], None)
    clock = Clock()
    door = auth.Doorkeeper(keys, look_seconds=0.2, clock=clock)
    assert [door.identify(f"Bearer {key}").name for _ in range(50)] == ["app"] * 50
    assert keys.looks == 1
    other = KeyFile(keys.file).add("other", ["*"], None)
    assert door.identify(f"Bearer {other}").name == "other"
    KeyFile(keys.file).revoke("app")
    clock.pass_(0.25)
    with pytest.raises(InvalidApiKey):
        door.identify(f"Bearer {key}")


def test_a_file_damaged_between_looks_lets_in_whom_it_did(tmp_path: Path) -> None:
    """A known key goes on, an unknown one is refused and finds the damage out, and nobody becomes keyless; mended, all is well."""
    keys = KeyFile(tmp_path / "keys.json")
    key = keys.add("app", ["*"], None)
    whole = keys.file.read_bytes()
    clock = Clock()
    door = auth.Doorkeeper(keys, look_seconds=0.2, clock=clock)
    assert door.identify(f"Bearer {key}").name == "app"
    keys.file.write_text("{")
    for _ in range(2):
        with pytest.raises(InvalidApiKey):
            door.identify("Bearer wrong")
        assert door.problem is not None
        assert not door.keyless
        assert door.identify(f"Bearer {key}").name == "app"
        clock.pass_(0.25)
    keys.file.write_bytes(whole)
    assert door.identify(f"Bearer {key}").name == "app"
    assert door.problem is None


def test_the_first_key_ends_the_keyless_at_the_next_look(tmp_path: Path) -> None:
    """Well within the second that is promised."""
    keys = KeyFile(tmp_path / "keys.json")
    clock = Clock()
    door = auth.Doorkeeper(keys, look_seconds=0.2, clock=clock)
    assert door.identify(None) is auth.KEYLESS
    KeyFile(keys.file).add("app", ["*"], None)
    clock.pass_(0.25)
    with pytest.raises(InvalidApiKey):
        door.identify(None)
