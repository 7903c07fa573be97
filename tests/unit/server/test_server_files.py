"""``/v1/files`` as the official client sees it: checked rows, lists with cursors, nobody else's files."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from services.server.tuning.sweeping import keep_swept
from tests.unit.server.fine_tuning_rows import GOOD
from tests.unit.server.harness import Server, until
from tests.unit.server.sdk import http, sdk


@pytest.fixture
def unchecked(server: Server) -> Server:
    """Every file passes: these tests are about what comes before and after the check."""

    async def pass_all(_: Path) -> None:
        return

    server.services.uploads._check = pass_all  # noqa: SLF001 - the check has a test of its own below
    return server


async def test_file_comes_back_as_it_was_sent(unchecked: Server) -> None:
    """Uploaded, looked at, listed, read and deleted, each answer as strict as the client can be."""
    client = sdk(unchecked)
    sent = await client.files.create(file=("rows.jsonl", GOOD), purpose="fine-tune")
    assert (sent.filename, sent.bytes, sent.purpose, sent.status) == ("rows.jsonl", len(GOOD), "fine-tune", "processed")
    assert await client.files.retrieve(sent.id) == sent
    assert [file.id async for file in client.files.list()] == [sent.id]
    assert (await client.files.content(sent.id)).content == GOOD
    deleted = await client.files.delete(sent.id)
    assert (deleted.id, deleted.deleted) == (sent.id, True)
    with pytest.raises(openai.NotFoundError, match="No such File object"):
        await client.files.retrieve(sent.id)


async def test_file_larger_than_one_write_arrives_whole(tmp_path: Path) -> None:
    """In many pieces, none of them kept in memory, the last one included."""
    server = Server(tmp_path, max_file_bytes=5_000_000)

    async def pass_all(_: Path) -> None:
        return

    server.services.uploads._check = pass_all  # noqa: SLF001 - as above
    content = b"x" * 3_500_001
    sent = await sdk(server).files.create(file=("big.jsonl", content), purpose="fine-tune")
    assert server.services.tuning.files.content(sent.id).read_bytes() == content
    server.model.renderer.close()


async def test_pages_follow_each_other(unchecked: Server) -> None:
    """Every file once, in both orders, with the cursor that the last page gave."""
    client = sdk(unchecked)
    ids = [(await client.files.create(file=(f"{n}.jsonl", GOOD), purpose="fine-tune")).id for n in range(5)]
    assert [file.id async for file in client.files.list(limit=2)] == ids[::-1]
    assert [file.id async for file in client.files.list(limit=2, order="asc")] == ids
    page = await client.files.list(limit=5)
    assert not page.has_more
    assert [file.id async for file in client.files.list(purpose="fine-tune-results")] == []


async def test_file_expires(unchecked: Server) -> None:
    """At the moment that its owner chose."""
    client = sdk(unchecked)
    after: Any = {"anchor": "created_at", "seconds": 3600}
    sent = await client.files.create(file=("rows.jsonl", GOOD), purpose="fine-tune", expires_after=after)
    assert sent.expires_at == sent.created_at + 3600


async def test_files_are_their_owners(unchecked: Server, tmp_path: Path) -> None:
    """Another key finds neither the file nor its content, and cannot delete it."""
    del tmp_path
    keys = unchecked.services.doorkeeper._keys  # noqa: SLF001 - to make two keys
    mine, other = (
        sdk(unchecked, keys.add("mine", ["*"], None, roles=["fine-tuning"])),
        sdk(unchecked, keys.add("other", ["*"], None, roles=["fine-tuning"])),
    )
    sent = await mine.files.create(file=("rows.jsonl", GOOD), purpose="fine-tune")
    for look in (other.files.retrieve, other.files.content, other.files.delete):
        with pytest.raises(openai.NotFoundError):
            await look(sent.id)
    assert [file.id async for file in other.files.list()] == []
    assert [file.id async for file in mine.files.list()] == [sent.id]


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"data": {"purpose": "assistants"}}, "purpose"),
    ({"data": {}}, "purpose"),
    ({"data": {"purpose": "fine-tune", "colour": "red"}}, "colour"),
    ({"data": {"purpose": "fine-tune", "expires_after[seconds]": "5"}}, "expires_after.seconds"),
    ({"data": {"purpose": "fine-tune", "expires_after[seconds]": "3600"}}, "expires_after.anchor"),
    ({"data": {"purpose": "x" * 300}}, "purpose"),
    ({"data": {"purpose": "fine-tune"}, "files": {"rows": b"x"}}, "rows"),
    ({"data": {"purpose": "fine-tune"}, "files": [("file", b"x"), ("file", b"y")]}, "file"),
]


@pytest.mark.parametrize(("form", "param"), REFUSED, ids=[f"{param}-{i}" for i, (_, param) in enumerate(REFUSED)])
async def test_form_that_cannot_be_is_refused_by_name(unchecked: Server, form: dict[str, Any], param: str) -> None:
    """400 with the field, and nothing is left of it on the disk."""
    files = form.get("files", {"file": ("rows.jsonl", GOOD)})
    answer = await _post(unchecked, data=form["data"], files=files)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert list(unchecked.plan.paths.job_files.iterdir()) == []


async def test_form_without_a_file_is_refused(unchecked: Server) -> None:
    """With the name of what is missing."""
    answer = await _post(unchecked, files={"purpose": (None, "fine-tune")})
    assert answer.json()["error"]["param"] == "file"


async def test_what_is_no_form_is_refused(unchecked: Server) -> None:
    """Other content types are 415, and so is what is compressed; a form that ends in the middle is 400."""
    assert (await _post(unchecked, json={"purpose": "fine-tune"})).status_code == 415
    form: dict[str, Any] = {"purpose": (None, "fine-tune"), "file": ("a.jsonl", GOOD)}
    assert (await _post(unchecked, files=form, headers={"content-encoding": "gzip"})).status_code == 415
    headers = {"content-type": "multipart/form-data; boundary=x"}
    answer = await _post(
        unchecked, content=b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\nab', headers=headers
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_form")
    assert list(unchecked.plan.paths.job_files.iterdir()) == []


async def test_file_over_the_limit_is_refused(unchecked: Server) -> None:
    """413, whatever the length header says; nothing is kept."""
    answer = await _post(unchecked, data={"purpose": "fine-tune"}, files={"file": b"x" * 20_001})
    assert answer.status_code == 413
    assert list(unchecked.plan.paths.job_files.iterdir()) == []


async def test_uploads_are_few_at_a_time(server: Server) -> None:
    """While as many are checked as may be, another is 429 with a time to try again; serving goes on."""
    checking, go_on = asyncio.Event(), asyncio.Event()

    async def wait(_: Path) -> None:
        checking.set()
        await go_on.wait()

    server.services.uploads._check = wait  # noqa: SLF001 - as above
    first = asyncio.create_task(sdk(server).files.create(file=("a.jsonl", GOOD), purpose="fine-tune"))
    await checking.wait()
    with pytest.raises(openai.RateLimitError) as refused:
        await sdk(server).files.create(file=("b.jsonl", GOOD), purpose="fine-tune")
    assert refused.value.response.headers["retry-after"] == "5"
    assert (await server.chat()).status == 200
    go_on.set()
    assert (await first).filename == "a.jsonl"


async def test_file_that_comes_too_slowly_is_given_up(tmp_path: Path) -> None:
    """However often a piece of it comes: its place is another's then."""
    server = Server(tmp_path, upload_seconds=0.3)

    async def drip() -> AsyncIterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\n'
        while True:
            yield b"a"
            await asyncio.sleep(0.02)

    headers = {"content-type": "multipart/form-data; boundary=x"}
    answer = await _post(server, content=drip(), headers=headers)
    assert answer.status_code == 408
    assert "0.3 seconds" in answer.json()["error"]["message"]
    assert list(server.plan.paths.job_files.iterdir()) == []
    server.model.renderer.close()


async def test_expired_content_goes_from_the_disk(unchecked: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """By itself, while the server runs; what has not expired stays."""
    store = unchecked.services.tuning.files
    client, after = sdk(unchecked), {"anchor": "created_at", "seconds": 3600}
    for more in ({"expires_after": after}, {}):
        await client.files.create(file=("rows.jsonl", GOOD), purpose="fine-tune", **more)  # type: ignore[arg-type]
    [kept, expiring] = [store.content(stored.id) for stored in store.list().data]
    sweeping = asyncio.create_task(keep_swept(store, unchecked.services.limits, every_seconds=0.01))
    await asyncio.sleep(0.1)
    assert expiring.exists()
    later = time.time() + 3601
    monkeypatch.setattr(time, "time", lambda: later)
    await until(lambda: not expiring.exists(), 60)
    sweeping.cancel()
    assert kept.read_bytes() == GOOD


async def _post(server: Server, **what: Any) -> httpx.Response:
    return await http(server).post("/v1/files", **what)
