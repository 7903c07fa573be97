"""What a soak reads of processes and of a log."""

import json
import os
from pathlib import Path

from tests.soak.processes import look
from tests.soak.running import errors_in

MIB = 2**20


def test_memory_and_files_of_a_process_are_seen(tmp_path: Path) -> None:
    """Its own memory, not that of a file it has mapped; a process that is gone is in no sample."""
    before = look(os.getpid(), [], 1.0)
    with (tmp_path / "open").open("w"):
        held = bytearray(os.urandom(64 * MIB))
        after = look(os.getpid(), [2**22 - 1], 2.0)
    assert after.files == {"server": before.files["server"] + 1}
    assert 60 * MIB < after.memory["server"] - before.memory["server"] < 200 * MIB
    del held


def test_errors_of_a_log_are_found_and_said_by_their_event(tmp_path: Path) -> None:
    log = tmp_path / "log"
    lines = [
        json.dumps({"event": "request", "level": "info"}),
        json.dumps({"event": "the engine died", "level": "error", "prompt": "secret"}),
        "Traceback (most recent call last):",
        "a library's own line",
    ]
    log.write_text("\n".join(lines) + "\n")
    assert errors_in(log) == ["the engine died", "Traceback (most recent call last):"]
