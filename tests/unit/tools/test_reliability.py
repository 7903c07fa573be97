"""The table of faults and the tests that it names."""

import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
TABLE = (REPOSITORY / "docs" / "reliability.md").read_text()


def test_every_kind_of_fault_names_tests_that_there_are() -> None:
    """23 kinds in order, each with at least one test; a test that is renamed or deleted is missed here."""
    rows = re.findall(r"^\| (\d+) \|.*$", TABLE, re.MULTILINE)
    assert [int(number) for number in rows] == list(range(1, 24))
    for line in TABLE.splitlines():
        if re.match(r"\| \d+ \|", line):
            assert "::test_" in line.rpartition(" | ")[2], line[:60]
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", TABLE)
    assert len(named) > 50
    for file, test in named:
        assert re.search(rf"^(async )?def {test}\(", (REPOSITORY / "tests" / file).read_text(), re.MULTILINE), test
