"""Fixtures of the gate's unit tests."""

from pathlib import Path

import pytest

from services.registry.layout import Registry
from tests.support.adapters import publish_adapter


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """One published version."""
    registry = Registry(tmp_path / "registry")
    publish_adapter(registry)
    return registry
