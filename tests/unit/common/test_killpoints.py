"""A real process, told by its environment where to die."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from services.registry.layout import Registry
from services.registry.pointer import read_pointer
from tests.conftest import REPOSITORY
from tests.support.adapters import publish_adapter, write_judgement


@pytest.mark.parametrize(("kill_at", "moved"), [("replace: written:1", False), ("pointer:1", True), ("", True)])
def test_the_operators_own_command_dies_where_it_is_told(tmp_path: Path, kill_at: str, *, moved: bool) -> None:
    """Before the pointer's rename or after it, and nowhere where nothing is said."""
    registry = Registry(tmp_path / "registry")
    publish_adapter(registry)
    write_judgement(registry, 1)
    done = subprocess.run(
        [sys.executable, "-m", "services.registry", "promote", "--version", "1"],
        cwd=REPOSITORY,
        env=os.environ | {"WHETSTONE_DATA": str(tmp_path), "WHETSTONE_KILL_AT": kill_at},
        capture_output=True,
        check=False,
    )
    assert done.returncode == (-signal.SIGKILL if kill_at else 0)
    assert (read_pointer(registry, "acme") is not None) is moved
