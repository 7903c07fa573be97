"""Reports of the gate that a purge cannot read stop it in words: it cannot say that nothing quotes a row."""

from pathlib import Path

import pytest

from services.purge.needles import Needles
from services.purge.reports import quoting_reports
from services.registry.errors import RegistryError
from services.registry.layout import Registry
from services.registry.reports import report_file
from tests.support.adapters import publish_adapter


@pytest.mark.parametrize(
    "content", [b"{", b'{"answers": "\xff"}', b'{"unknown": ' + b"[" * 5000], ids=["cut", "byte", "deep"]
)
def test_a_damaged_report_is_named_with_its_remedy(tmp_path: Path, content: bytes) -> None:
    registry = Registry(tmp_path / "registry")
    publish_adapter(registry)
    file = report_file(registry, "acme", 1, "json")
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content)
    with pytest.raises(RegistryError, match="make judge VERSION=1"):
        list(quoting_reports(registry, Needles(["canary.4711"]), []))
