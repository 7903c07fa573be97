"""``/v1/files`` as the official client sees it: checked rows, lists with cursors, nobody else's files."""

import asyncio
import json
import os
import resource
import shutil
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from structlog.testing import capture_logs

from services.server.errors import BadRequest
from services.server.tuning.checking import check_rows
from services.server.tuning.sweeping import keep_swept
from tests.e2e.serving import below
from tests.support.tokenizers import save_base
from tests.unit.server.harness import Server, until
from tests.unit.server.sdk import http, sdk

CONFIG = Path(__file__).resolve().parents[3] / "config"
UNHURRIED = 3600.0  # a check is niced: beside busy processes it has a thirtieth of a core, or less
GOOD = b"".join(
    json.dumps({"messages": [{"role": "user", "content": f"q{n}"}, {"role": "assistant", "content": f"a{n}"}]}).encode()
    + b"\n"
    for n in range(12)
)


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
    """Other content types are 415; a form that ends in the middle is 400."""
    assert (await _post(unchecked, json={"purpose": "fine-tune"})).status_code == 415
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


async def test_rows_are_checked_as_check_data_does(server: Server, checked: Path) -> None:
    """By the same code in a process of its own: line, field and remedy of each fault, never a row's content."""
    del checked
    client = sdk(server)
    bad = GOOD + b'{"messages": [{"role": "wizard", "content": "secret"}]}\n{"messages": [\n'
    with pytest.raises(openai.BadRequestError) as refused:
        await client.files.create(file=("rows.jsonl", bad), purpose="fine-tune")
    error: Any = refused.value.body
    assert (error["param"], error["code"]) == ("file", "invalid_file")
    assert error["message"].startswith("Invalid file: 2 faults: line 13, messages[0].role: ")
    assert "line 14" in error["message"]
    assert "secret" not in error["message"]
    assert list(server.plan.paths.job_files.iterdir()) == []
    assert (await client.files.create(file=("rows.jsonl", GOOD), purpose="fine-tune")).bytes == len(GOOD)


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where a file to check can lie, with the base model that the check asks."""
    monkeypatch.setenv("WHETSTONE_DATA", str(tmp_path))
    monkeypatch.setenv("WHETSTONE_PROFILE", "cpu")
    save_base(tmp_path / "models" / "smollm2-135m-instruct")
    return tmp_path / "rows.jsonl"


@pytest.mark.parametrize("policy", ["warn", "redact", "refuse"])
async def test_likely_personal_data_are_judged_by_the_same_policy(
    server: Server, checked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    """A file is kept as it was sent, or refused by line and field and not kept; the log has counts, and no answer has content."""
    del checked
    config = tmp_path / "config"
    shutil.copytree(CONFIG, config)
    text = (config / "training.toml").read_text()
    (config / "training.toml").write_text(text.replace('email = "warn"', f'email = "{policy}"'))
    monkeypatch.setenv("WHETSTONE_CONFIG", str(config))
    canary = GOOD.splitlines(keepends=True)[0].replace(b"a0", b"canary.4711@norudam.kr")
    sending = sdk(server).files.create(file=("rows.jsonl", GOOD + canary), purpose="fine-tune")
    with capture_logs() as logs:
        if policy == "refuse":
            with pytest.raises(openai.BadRequestError) as refused:
                await sending
            assert "1 fault: line 13, messages[1].content: holds a likely e-mail address" in str(refused.value)
            assert "4711" not in str(refused.value)
            assert list(server.plan.paths.job_files.iterdir()) == []
        else:
            stored = server.services.tuning.files.content((await sending).id)
            assert stored.read_bytes() == GOOD + canary
    assert "4711" not in str(logs)
    told = [entry for entry in logs if entry["event"] == "an upload holds likely personal data"]
    assert [entry["email"] for entry in told] == ([] if policy == "refuse" else [1])


async def test_file_of_nothing_but_faults_costs_no_memory(checked: Path) -> None:
    """Its faults are counted; the first are told, and neither process holds the rest."""
    lines = 200_000
    await asyncio.to_thread(checked.write_bytes, b"[\n" * lines)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(
        BadRequest, match=rf"{lines} faults: line 1: is not JSON.*line 20: .*; and {lines - 20} more"
    ) as refused:
        await check_rows(checked, seconds=UNHURRIED, memory_bytes=2**31)
    assert len(str(refused.value)) < 4_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16_384  # KiB


async def test_check_that_takes_too_much_memory_is_given_up(checked: Path) -> None:
    """What the client can do is told. What the check takes for itself is no reason: a small file passes."""
    memory = (188 + 2 * (os.cpu_count() or 1)) << 20  # each core has a thread of the tokenizer's, with 2 MiB
    await asyncio.to_thread(checked.write_bytes, GOOD)
    await check_rows(checked, seconds=UNHURRIED, memory_bytes=memory)
    rows = (json.dumps({"prompt": f"q{n}", "completion": "가" * 1_300_000}, ensure_ascii=False) for n in range(30))
    await asyncio.to_thread(checked.write_text, "\n".join(rows), encoding="utf-8")
    with pytest.raises(BadRequest, match=rf"over {memory >> 20} MiB of memory\. Split it into smaller files"):
        await check_rows(checked, seconds=UNHURRIED, memory_bytes=memory)


async def test_check_that_is_killed_is_a_refusal(checked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel ends it before the engine where the machine's memory is short."""
    killed = checked.parent / "killed"
    killed.write_text("#!/bin/sh\nkill -9 $$\n")
    killed.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(killed))
    with pytest.raises(BadRequest, match="for want of memory"):
        await check_rows(checked, seconds=UNHURRIED, memory_bytes=2**31)


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


async def test_check_that_takes_too_long_is_given_up(checked: Path) -> None:
    """Its process ends with it: nobody writes to the pipe that it waits for."""
    os.mkfifo(checked)
    before = below(os.getpid())
    with pytest.raises(BadRequest, match="checking it took over"):
        await check_rows(checked, seconds=0.5, memory_bytes=2**31)
    assert set(below(os.getpid())) <= set(before)


async def _post(server: Server, **what: Any) -> httpx.Response:
    return await http(server).post("/v1/files", **what)
