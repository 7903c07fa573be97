"""What vLLM's processes log, by the file that the environment names to them: in the project's form, and without what was asked."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from services.server.engine.discreet import QUOTING
from tests.conftest import REPOSITORY
from tests.unit.server.harness import settings

SAY = """
import json, logging, logging.config, os, sys
from pathlib import Path
import msgspec
from services.server.engine.environment import prepare_environment
from services.server.settings import EngineSettings
prepare_environment(msgspec.json.decode(sys.argv[1], type=EngineSettings), json_logs=json.loads(sys.argv[2]))
logging.config.dictConfig(json.loads(Path(os.environ["VLLM_LOGGING_CONFIG_PATH"]).read_text()))
logger = logging.getLogger(sys.argv[3])
logger.info("not shown")
logger.error("a step of %s failed", "canary4711")
try:
    raise ValueError("canary4711")
except ValueError:
    logger.exception("no grammar for %s", "canary4711")
"""


def said(logger: str, *, as_json: bool | None = None, **variables: str) -> str:
    """The lines of one logger in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", SAY, msgspec.json.encode(settings().engine).decode(), json.dumps(as_json), logger],
        cwd=REPOSITORY,
        env=os.environ | variables,
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout == ""
    return done.stderr


@pytest.mark.parametrize("logger", [*QUOTING, "vllm.v1.structured_output.backend_xgrammar"])
def test_modules_that_quote_requests_say_their_templates_alone(logger: str) -> None:
    """And the type of an error."""
    lines = said(logger)
    assert "canary4711" not in lines
    failed, refused = map(json.loads, lines.splitlines())
    assert (failed["level"], failed["logger"], failed["event"]) == ("error", logger, "a step of %s failed")
    assert (refused["event"], "exception" in refused) == ("no grammar for %s (ValueError)", False)


def test_they_are_modules_of_the_vllm_that_is_installed() -> None:
    """By their files; to import them takes seconds."""
    vllm = importlib.util.find_spec("vllm")
    assert vllm is not None
    assert vllm.submodule_search_locations is not None
    for name in QUOTING:
        place = Path(vllm.submodule_search_locations[0], *name.split(".")[1:])
        assert place.with_suffix(".py").exists() or (place / "__init__.py").exists(), name


def test_what_others_say_is_whole() -> None:
    """An operator needs to know why an engine died."""
    failed, refused = map(
        json.loads, said("vllm.v1.engine.core", VLLM_LOGGING_CONFIG_PATH="/their/own.json").splitlines()
    )
    assert failed["event"] == "a step of canary4711 failed"
    assert "ValueError: canary4711" in refused["exception"]


def test_its_form_and_level_are_the_servers() -> None:
    """Lines for people where those are asked for; the level is the operator's."""
    lines = said("vllm.v1.engine.core", as_json=False, VLLM_LOGGING_LEVEL="info").splitlines()
    assert ("[info     ] not shown" in lines[0], lines[-1]) == (True, "ValueError: canary4711")
