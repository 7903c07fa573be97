"""Grammars tried out: real compiler, real processes, a small vocabulary."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from services.server.engine.protocol import EngineBusy, EngineError
from services.server.engine.trials import Trials
from tests.support.processes import lives, until
from tests.support.tokenizers import save_base

CPU_SECONDS = 0.7  # as config/server.toml has it
TRIES = 100  # a minute; a second of CPU time takes a tenth of one where each core has five processes
SOUND: list[dict[str, Any]] = [
    {"type": "object", "properties": {"date": {"type": "string", "pattern": r"^\d{4}-\d{2}-\d{2}$"}}},
    {"type": "array", "items": {"type": "string", "maxLength": 255}, "maxItems": 1000},
    {"$defs": {"tree": {"type": "array", "items": {"$ref": "#/$defs/tree"}}}, "$ref": "#/$defs/tree"},
    {"type": "string", "pattern": "("},  # wrong: vLLM says so itself
]
EXPLODING: list[dict[str, Any]] = [
    {"type": "string", "pattern": "^" + ".?" * 500 + "$"},
    {"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(300)}, "maxProperties": 200},
    {"prefixItems": [{"type": "string", "maxLength": 200 + i} for i in range(50)]},
]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model's folder with a tokenizer in it."""
    return save_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
async def trials(base: Path) -> AsyncIterator[Trials]:
    """A process that is ready, and all the time there is to wait for it."""
    trials = Trials(base, cpu_seconds=CPU_SECONDS, seconds=60)
    assert await trials.fits("json", "{}")
    yield trials
    await trials.close()


@contextlib.contextmanager
def busy() -> Iterator[None]:
    """A machine without a free core."""
    burning = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2 * (os.cpu_count() or 1))]
    try:
        yield
    finally:
        for process in burning:
            process.kill()
            process.wait()


async def test_what_explodes_is_told_from_what_does_not(trials: Trials) -> None:
    """The one within its second of CPU time, the other at once; what was said is not tried out again."""
    for schema in SOUND:
        assert await trials.fits("json", json.dumps(schema))
    for schema in EXPLODING:
        assert not await trials.fits("json", json.dumps(schema))
    began = time.perf_counter()
    assert [await trials.fits("json", json.dumps(schema)) for schema in SOUND + EXPLODING] == [True] * 4 + [False] * 3
    assert time.perf_counter() - began < 0.05


async def test_calls_are_tried_out_as_the_engine_binds_them(trials: Trials) -> None:
    """As a structural tag."""
    for schema, fits in ((SOUND[0], True), (EXPLODING[0], False)):
        content = {"type": "json_schema", "json_schema": schema}
        tag = {"type": "structural_tag", "format": {"type": "tag", "begin": "<a>", "content": content, "end": "</a>"}}
        assert await trials.fits("structural_tag", json.dumps(tag)) is fits


async def test_no_schema_waits_for_one_that_explodes(trials: Trials) -> None:
    """Nor does who asked the same for one who left."""
    exploding = json.dumps(EXPLODING[0])
    left, stays = (asyncio.create_task(trials.fits("json", exploding)) for _ in range(2))
    await asyncio.sleep(0.05)
    left.cancel()
    assert await trials.fits("json", json.dumps(SOUND[0]))
    assert not stays.done()
    assert not await stays


async def test_nobody_waits_longer_than_a_second_on_a_busy_machine(
    base: Path, record_property: Callable[[str, object], None]
) -> None:
    """Who is told that it is not known yet learns it by asking again: that it explodes, or that it does not."""
    trials = Trials(base, cpu_seconds=CPU_SECONDS, seconds=0.5)
    assert await _in_the_end(trials, {})
    with busy():
        for name, schema, at_once, fits in (("exploding", EXPLODING[0], False, False), ("sound", SOUND[0], True, True)):
            began = time.monotonic()
            assert await _in_the_end(trials, schema, at_once=at_once) is fits
            record_property(f"seconds until known: {name}", round(time.monotonic() - began, 2))
    await trials.close()


async def _in_the_end(trials: Trials, schema: dict[str, Any], *, at_once: bool = True) -> bool:
    """What is said of a schema to who asks for it again and again; each time within a second."""
    for _ in range(TRIES):
        began = time.monotonic()
        try:
            fits = await trials.fits("json", json.dumps(schema))
        except EngineBusy:
            at_once = True
        else:
            assert at_once, "the machine was not busy"
            return fits
        finally:
            assert time.monotonic() - began < 1
        await asyncio.sleep(0.1)
    pytest.fail(f"not known after {TRIES} tries")


async def test_process_that_ended_is_started_again(trials: Trials) -> None:
    """What waits is told; the next one is answered."""
    waiting = asyncio.create_task(trials.fits("json", json.dumps(EXPLODING[0])))
    await asyncio.sleep(0.05)
    (process,) = _below(os.getpid())
    os.kill(process, signal.SIGKILL)
    with pytest.raises(EngineError):
        await waiting
    assert await trials.fits("json", json.dumps(SOUND[0]))
    assert not await trials.fits("json", json.dumps(EXPLODING[0]))


async def test_closing_leaves_no_process(base: Path) -> None:
    """Nor a fork at work."""
    trials = Trials(base, cpu_seconds=60, seconds=60)
    assert await trials.fits("json", "{}")
    waiting = asyncio.create_task(
        trials.fits("json", json.dumps({"type": "string", "pattern": "^" + ".?" * 3000 + "$"}))
    )
    (process,) = _below(os.getpid())
    await asyncio.sleep(0.2)
    (fork,) = _below(process)
    await trials.close()
    with pytest.raises(EngineError):
        await waiting
    until(lambda: not lives(process) and not lives(fork), 5)


def _below(pid: int) -> list[int]:
    return [
        int(child)
        for file in Path(f"/proc/{pid}/task").glob("*/children")
        for child in file.read_text().split()
        if b"grammar_trial" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]
