"""What the engine finds in its environment, whatever the operator's shell or Compose file holds."""

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import msgspec

from tests.conftest import REPOSITORY
from tests.unit.server.harness import settings

PREPARE = """
import json, os, sys
import msgspec
from services.server.engine.environment import prepare_environment
from services.server.settings import EngineSettings
prepare_environment(msgspec.json.decode(sys.argv[1], type=EngineSettings))
assert "vllm" not in sys.modules
print(json.dumps(dict(os.environ)))
"""


def prepared(**variables: str) -> dict[str, str]:
    """The environment that ``prepare_environment`` leaves, in a process of its own: it writes to its own."""
    done = subprocess.run(
        [sys.executable, "-c", PREPARE, msgspec.json.encode(settings().engine).decode()],
        cwd=REPOSITORY,
        env=os.environ | variables,
        check=True,
        capture_output=True,
        text=True,
    )
    left: dict[str, str] = json.loads(done.stdout)
    return left


def test_no_variable_opens_a_door_of_vllm() -> None:
    """No adapter loaded past the registry, no development routes, no pickles between processes; unset is shut."""
    doors = ("VLLM_ALLOW_RUNTIME_LORA_UPDATING", "VLLM_SERVER_DEV_MODE", "VLLM_ALLOW_INSECURE_SERIALIZATION")
    left = prepared(**dict.fromkeys(doors, "1"))
    assert not left.keys() & set(doors)


def test_vllm_logs_by_the_file_that_is_written_for_it() -> None:
    """Where it may not configure its logs, it does not start with a file that says how."""
    assert prepared(VLLM_CONFIGURE_LOGGING="0")["VLLM_CONFIGURE_LOGGING"] == "1"


def test_no_plugin_is_loaded() -> None:
    """An empty list, not none: vLLM loads every plugin that is installed where it finds no list."""
    assert prepared(VLLM_PLUGINS="lora_hf_hub_resolver")["VLLM_PLUGINS"] == ""
    assert prepared()["VLLM_PLUGINS"] == ""


def test_the_engines_sockets_go_with_the_server() -> None:
    """They have a folder of their own, which vLLM would leave full and this process removes; a socket's path has 107 bytes."""
    folder = Path(prepared()["VLLM_RPC_BASE_PATH"])
    assert "whetstone" in folder.name
    assert len(str(folder / str(uuid.uuid4()))) <= 107
    assert not folder.exists()


def test_nothing_calls_out() -> None:
    """No usage statistics and no Hub, even where the environment says otherwise."""
    left = prepared(VLLM_NO_USAGE_STATS="0", DO_NOT_TRACK="0", HF_HUB_OFFLINE="0", TRANSFORMERS_OFFLINE="0")
    assert {
        left[name] for name in ("VLLM_NO_USAGE_STATS", "DO_NOT_TRACK", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    } == {"1"}
