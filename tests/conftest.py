"""What tests of every tier share: the real base model, and a registry with real files."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
TEST_DATA = REPOSITORY / "data" / "test"


def project_environment(data: Path, **extra: str) -> dict[str, str]:
    """The environment of the project's own commands in tests: CPU profile, no outgoing call."""
    return os.environ | {
        "WHETSTONE_DATA": str(data),
        "WHETSTONE_CONFIG": str(REPOSITORY / "config"),
        "WHETSTONE_PROFILE": "cpu",
        "PYTHONPATH": str(REPOSITORY),
        "HF_HUB_OFFLINE": "1",
        **extra,
    }


@pytest.fixture(scope="session")
def base_model_dir() -> Path:
    """SmolLM2-135M-Instruct as a Hugging Face folder; converted once, kept below data/test."""
    subprocess.run(
        [sys.executable, "-m", "services.base_model", "fetch"],
        cwd=REPOSITORY,
        env=project_environment(TEST_DATA),
        check=True,
    )
    return TEST_DATA / "models" / "smollm2-135m-instruct"
