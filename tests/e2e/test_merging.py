"""A version merged into a second engine's weights: what it answers, and what swaps do to it, on the real engines."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.registry.layout import Registry
from services.registry.pointer import promote
from tests.e2e.adapters import QUESTION
from tests.e2e.asking import ANSWERS, BASE
from tests.e2e.serving import ServerProcess

pytestmark = pytest.mark.e2e


@pytest.fixture
def merging(data: Path, versions: object, tmp_path: Path) -> Iterator[ServerProcess]:
    """A server of its own on a copy of the registry, which merges ``acme``."""
    del versions
    (tmp_path / "models").symlink_to((data / "models").resolve())
    shutil.copytree(data / "registry", tmp_path / "registry")
    server = ServerProcess(tmp_path, "engine.merged_adapter=acme")
    try:
        server.wait_ready()
        yield server
    finally:
        server.end()


def said(server: ServerProcess, model: str) -> str:
    """The greedy answer to the question that the versions were taught."""
    answer = server.client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": QUESTION}], max_tokens=24, temperature=0
    )
    return answer.choices[0].message.content or ""


def merged(server: ServerProcess) -> list[str]:
    """Versions in the order in which they were merged."""
    lines = (line for line in server.log.read_text().splitlines() if '"adapter version merged"' in line)
    return [json.loads(line)["model"] for line in lines]


def test_a_version_in_service_is_merged_and_the_next_takes_its_place(merging: ServerProcess) -> None:
    """Each answers as it was taught, before it is merged and afterwards; pinned versions and the base are what they were."""
    base = said(merging, BASE)
    registry = Registry(merging.log.parent / "registry")
    assert said(merging, "acme") == ANSWERS[1]
    merging.wait(lambda: merged(merging) == ["acme@1"], 240)
    assert said(merging, "acme") == ANSWERS[1]
    assert said(merging, "acme@2") == ANSWERS[2]
    assert said(merging, BASE) == base
    promote(registry, "acme", 2)
    merging.wait(lambda: said(merging, "acme") == ANSWERS[2])
    merging.wait(lambda: merged(merging) == ["acme@1", "acme@2"], 60)
    assert said(merging, "acme") == ANSWERS[2]
    assert said(merging, "acme@1") == ANSWERS[1]
    assert said(merging, BASE) == base
