"""The database of stored responses: its age and size, its modes, a disk that fails, and what is said of it."""

import asyncio
import contextlib
import json
import sqlite3
import stat
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine

from services.common.settings import SettingsError, load
from services.server.errors import StartRefused
from services.server.settings import ServerSettings
from services.server.stored.store import ResponseStore, ResponseUnknown, StoredResponse, StoreFull
from services.server.stored.tables import metadata
from tests.conftest import REPOSITORY
from tests.unit.server.client import Client
from tests.unit.server.fakes import BASE, FakeEngine, roomy_engine
from tests.unit.server.harness import Server, until
from tests.unit.server.responding import respond

CANARY = "the merger is on Tuesday"
DAY = 86_400
MEBIBYTE = 2**20


@pytest.fixture
def engine() -> FakeEngine:
    """See ``roomy_engine``."""
    return roomy_engine()


@pytest.fixture
async def server(tmp_path: Path, engine: FakeEngine) -> AsyncIterator[Server]:
    """A server that stores responses for a day."""
    server = Server(tmp_path, engine=engine, keep_days=1)
    yield server
    server.model.renderer.close()
    assert server.services.admission.in_flight == 0, "a request did not give back its place"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where responses are stored."""
    return tmp_path / "responses" / "responses.sqlite"


@pytest.fixture
def store(file: Path) -> ResponseStore:
    """An empty store, of the smallest size that may be set."""
    return ResponseStore(file, keep_days=1, max_bytes=MEBIBYTE)


def response(number: int, *, age: float = 0, size: int = 0) -> StoredResponse:
    """A small response, or one that has ``size`` bytes more."""
    return StoredResponse(
        id=f"resp_{number}",
        owner="app",
        previous_id=None,
        created_at=int(time.time() - age),
        input=b"[]",
        answer=json.dumps({"output": [], "text": "x" * size}).encode(),
    )


def ids_in(file: Path) -> list[str]:
    """Every response that is there, the oldest first."""
    with contextlib.closing(sqlite3.connect(file)) as connection:
        return [row[0] for row in connection.execute("SELECT id FROM responses ORDER BY number")]


def test_migrations_make_the_table(store: ResponseStore, file: Path) -> None:
    """What the migrations leave is what the code expects, to the last column and index."""
    del store
    engine = create_engine(f"sqlite:///{file}")
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()


def test_too_old_is_gone_before_and_after_it_is_swept(store: ResponseStore, file: Path) -> None:
    """From its day on nobody finds it; the sweep takes it from the disk, and leaves the others."""
    store.add(response(1, age=DAY))
    store.add(response(2, age=DAY - 60))
    with pytest.raises(ResponseUnknown):
        store.answer("app", "resp_1")
    assert ids_in(file) == ["resp_1", "resp_2"]
    store.sweep()
    assert ids_in(file) == ["resp_2"]
    assert store.answer("app", "resp_2") == response(2).answer


async def test_sweep_goes_on_after_a_disk_that_failed(server: Server, file: Path) -> None:
    """What could not be deleted now is deleted later."""
    store = ResponseStore(file, keep_days=1, max_bytes=MEBIBYTE)
    store.add(response(1, age=2 * DAY))
    mend = _take_away(file)
    sweeping = asyncio.create_task(server.services.stored.keep_swept(every_seconds=0.01))
    await asyncio.sleep(0.1)
    assert not sweeping.done()
    mend()
    await until(lambda: ids_in(file) == [])
    sweeping.cancel()


def test_oldest_go_where_there_is_no_room(store: ResponseStore, file: Path) -> None:
    """The newest stay, as many as fit; the file never grows over its limit."""
    for number in range(30):
        store.add(response(number, size=100_000))
        assert file.stat().st_size <= MEBIBYTE + 110_000  # the limit, and the one for which the others went
    kept = ids_in(file)
    assert kept == [f"resp_{number}" for number in range(30 - len(kept), 30)]
    assert 8 <= len(kept) <= 10


def test_lower_limit_counts_from_the_next_sweep_on(store: ResponseStore, file: Path) -> None:
    """The operator's new ``max_bytes`` takes the oldest."""
    larger = ResponseStore(file, keep_days=1, max_bytes=4 * MEBIBYTE)
    for number in range(30):
        larger.add(response(number, size=100_000))
    store.sweep()
    assert ids_in(file)[-1] == "resp_29"
    assert 8 <= len(ids_in(file)) <= 10


def test_response_larger_than_everything_takes_nothing_with_it(store: ResponseStore, file: Path) -> None:
    """It is refused, and the others are still there."""
    store.add(response(1))
    with pytest.raises(StoreFull):
        store.add(response(2, size=MEBIBYTE))
    assert ids_in(file) == ["resp_1"]


def test_deleted_response_is_not_left_on_the_disk(store: ResponseStore, file: Path) -> None:
    """Its bytes are overwritten, in the file and beside it."""
    secret = msgspec.structs.replace(response(1), input=json.dumps([{"text": CANARY}]).encode())
    store.add(secret)
    assert CANARY.encode() in _bytes_below(file.parent)
    store.delete("app", "resp_1")
    assert CANARY.encode() not in _bytes_below(file.parent)


def test_database_is_the_servers_users_alone(store: ResponseStore, file: Path) -> None:
    """The folder is 0700 and every file in it 0600, whatever the folder was before; only the lock holds nothing."""
    file.parent.chmod(0o755)
    again = ResponseStore(file, keep_days=1, max_bytes=MEBIBYTE)
    with contextlib.closing(sqlite3.connect(file)) as connection:  # keeps SQLite's other files alive
        connection.execute("SELECT * FROM responses").fetchall()
        again.add(response(1))
        store.add(response(2))
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in file.parent.iterdir()}
    assert modes.pop(".migrating.lock") == 0o644
    assert set(modes) == {"responses.sqlite", "responses.sqlite-wal", "responses.sqlite-shm"}
    assert set(modes.values()) == {0o600}


async def test_nothing_is_stored_unless_it_is_switched_on(tmp_path: Path, engine: FakeEngine) -> None:
    """By default there is no database, ``store`` or not, and what an earlier server stored is removed."""
    file = tmp_path / "responses" / "responses.sqlite"
    ResponseStore(file, keep_days=1, max_bytes=MEBIBYTE).add(response(1))
    server = Server(tmp_path, engine=engine)
    assert (await respond(server, store=True)).json["store"] is False
    assert [path.name for path in file.parent.iterdir()] == [".migrating.lock"]
    await server.services.stored.keep_swept(every_seconds=0.01)
    server.model.renderer.close()


@pytest.mark.parametrize("stream", [True, False])
async def test_failing_disk_fails_no_answer(
    server: Server, file: Path, capsys: pytest.CaptureFixture[str], *, stream: bool
) -> None:
    """The answer is whole and says that it is not stored; who needs a stored one is told 503; nothing of it is in the log."""
    kept = (await respond(server)).json["id"]
    server.engine.words = ["I", " know", f" {CANARY}"]
    _break(file)
    answer = await respond(server, input=CANARY, instructions=CANARY, stream=stream, metadata={"a": CANARY})
    assert answer.status == 200
    ended = json.loads(answer.body.decode().rpartition("data: ")[2])["response"] if stream else answer.json
    assert (ended["status"], ended["store"]) == ("completed", False)
    assert ended["output"][0]["content"][0]["text"] == f"I know {CANARY}"
    for refused in (
        await respond(server, input=CANARY, previous_response_id=kept),
        await server.ask(f"/v1/responses/{kept}"),
        await server.ask(f"/v1/responses/{kept}", method="DELETE"),
        await server.ask(f"/v1/responses/{kept}/input_items"),
    ):
        assert (refused.status, refused.error["code"]) == (503, "service_unavailable")
        assert CANARY not in refused.error["message"]
    logged = "".join(capsys.readouterr())
    assert "an answer is not stored" in logged
    assert "stored responses cannot be reached" in logged
    assert CANARY not in logged


async def test_content_is_in_no_log_and_no_error(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    """Storing, going on, finding, refusing and deleting say nothing of what was said."""
    server.engine.words = ["I", " know", f" {CANARY}"]
    first = await respond(server, input=CANARY, metadata={"a": CANARY})
    assert CANARY in first.json["output"][0]["content"][0]["text"]
    path = f"/v1/responses/{first.json['id']}"
    second = await respond(server, input=CANARY, previous_response_id=first.json["id"], stream=True)
    assert second.status == (await server.ask(path)).status == (await server.ask(f"{path}/input_items")).status == 200
    refusals = [
        await respond(server, input=CANARY, previous_response_id="resp_0"),
        await server.ask(f"{path}/input_items?after=x"),
        await server.ask(f"{path}?stream=true"),
    ]
    assert (await server.ask(path, method="DELETE")).status == 200
    refusals.append(await server.ask(path))
    assert [refusal.status for refusal in refusals] == [400, 400, 400, 404]
    assert not any(CANARY in refusal.error["message"] for refusal in refusals)
    assert CANARY not in "".join(capsys.readouterr())


@pytest.mark.parametrize("keep_days", [0, 1])
def test_store_that_cannot_be_as_it_is_set_refuses_the_start(tmp_path: Path, file: Path, keep_days: int) -> None:
    """With the file and the remedy, rather than to serve otherwise than the operator meant."""
    file.mkdir(parents=True)
    with pytest.raises(StartRefused, match=r"responses\.sqlite: Is a directory; (remove it|its folder must)"):
        Server(tmp_path, keep_days=keep_days)


@pytest.mark.parametrize("stream", [True, False])
async def test_end_of_an_answer_is_told_once_it_is_stored(server: Server, file: Path, *, stream: bool) -> None:
    """However soon the next request comes; while the disk is slow the server goes on with everything else."""
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        waiting = Client(server, "/v1/responses", {"model": BASE, "input": "hi", "stream": stream})
        await asyncio.sleep(0.1)
        assert (await server.chat()).status == 200
        assert waiting.status == (200 if stream else 0)
        assert b"response.completed" not in waiting.body
        other.execute("ROLLBACK")
    await waiting.task
    assert len(ids_in(file)) == 1


@pytest.mark.parametrize("setting", ["keep_days=-1", "keep_days=4000", "keep_days=0.5", "max_bytes=1000", "keep_day=1"])
def test_setting_out_of_its_range_is_refused_by_name(setting: str) -> None:
    """Before anything is stored for other than the operator meant."""
    with pytest.raises(SettingsError, match=rf"responses\.{setting.partition('=')[0]}|unknown field `keep_day`"):
        load("server", ServerSettings, [f"responses.{setting}"], folder=REPOSITORY / "config")


def _take_away(file: Path) -> Callable[[], None]:
    """A disk on which the file cannot be opened; what makes it well again."""
    aside = file.rename(file.with_suffix(".aside"))
    file.mkdir()

    def mend() -> None:
        file.rmdir()
        aside.rename(file)

    return mend


def _break(file: Path) -> None:
    """A disk on which nothing can be read or written any more."""
    for path in file.parent.iterdir():
        path.unlink()
    file.write_bytes(b"no database" * 100)


def _bytes_below(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir())
