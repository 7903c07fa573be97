"""How a file of ``/v1/files`` is checked: in a process of its own, within its limits of time and memory."""

import asyncio
import json
import os
import resource
import shutil
import sys
from pathlib import Path
from typing import Any

import openai
import pytest
from structlog.testing import capture_logs

from services.server.errors import BadRequest
from services.server.tuning.checking import check_rows
from tests.e2e.serving import below
from tests.support.tokenizers import save_base
from tests.unit.server.fine_tuning_rows import GOOD
from tests.unit.server.harness import Server
from tests.unit.server.sdk import sdk

CONFIG = Path(__file__).resolve().parents[3] / "config"
UNHURRIED = 600.0  # a check is niced: beside busy processes it has a thirtieth of a core, or less


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where a file to check can lie, with the base model that the check asks."""
    monkeypatch.setenv("WHETSTONE_DATA", str(tmp_path))
    monkeypatch.setenv("WHETSTONE_PROFILE", "cpu")
    save_base(tmp_path / "models" / "smollm2-135m-instruct")
    return tmp_path / "rows.jsonl"


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
    memory = (188 + 2 * len(os.sched_getaffinity(0))) << 20  # each core has a thread of the tokenizer's, with 2 MiB
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


async def test_check_that_takes_too_long_is_given_up(checked: Path) -> None:
    """Its process ends with it: nobody writes to the pipe that it waits for."""
    os.mkfifo(checked)
    before = below(os.getpid())
    with pytest.raises(BadRequest, match="checking it took over"):
        await check_rows(checked, seconds=0.5, memory_bytes=2**31)
    assert set(below(os.getpid())) <= set(before)
