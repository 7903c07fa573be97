"""What tests of every tier share: the real base model, and a registry with real files."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.machine import commit, environment, machine, write_result

REPOSITORY = Path(__file__).resolve().parent.parent
TEST_DATA = REPOSITORY / "data" / "test"


def project_environment(data: Path, **extra: str) -> dict[str, str]:
    """The environment of the project's own commands in tests: CPU profile, no outgoing call."""
    return environment() | {
        "WHETSTONE_DATA": str(data),
        "WHETSTONE_CONFIG": str(REPOSITORY / "config"),
        "WHETSTONE_PROFILE": "cpu",
        "HF_HUB_OFFLINE": "1",
        **extra,
    }


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Add what tests recorded as their properties, such as how often they killed, to the file ``WHETSTONE_COUNTS``."""
    if not (named := os.environ.get("WHETSTONE_COUNTS")):
        return
    file = Path(named)
    kept = json.loads(file.read_text()) if file.exists() else {}
    tests: dict[str, dict[str, object]] = kept.get("tests", {})
    for report in (report for reports in terminalreporter.stats.values() for report in reports):
        if isinstance(report, pytest.TestReport):
            seen = tests.setdefault(report.nodeid, {})
            seen |= dict(report.user_properties)
            if report.when == "call":
                seen |= {"outcome": report.outcome, "seconds": round(report.duration, 1)}
    write_result(file, {"commit": commit(), "machine": machine(), **kept, "tests": tests})


def fetched_base_model() -> Path:
    """SmolLM2-135M-Instruct as a Hugging Face folder; converted once, kept below data/test."""
    subprocess.run(
        [sys.executable, "-m", "services.base_model", "fetch"],
        cwd=REPOSITORY,
        env=project_environment(TEST_DATA),
        check=True,
    )
    return TEST_DATA / "models" / "smollm2-135m-instruct"


@pytest.fixture(scope="session")
def base_model_dir() -> Path:
    """The real base model's folder."""
    return fetched_base_model()
