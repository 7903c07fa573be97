"""/openapi.json against the real server: requests made from the document, right and wrong ones."""

import re

import pytest

from tests.clients.programs_in import ENVIRONMENTS, ClientProgram, Served

pytestmark = pytest.mark.clients

CASES = re.compile(r"(\d+) generated, (\d+) passed")


def test_document_is_what_the_server_does(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    """No 5xx, no undocumented status, media type or header, no answer or event off its schema, nothing wrong accepted."""
    command = [
        str(ENVIRONMENTS / "schemathesis" / "bin" / "schemathesis"),
        "--config-file",
        "openapi/schemathesis.toml",
    ]
    program = ClientProgram([*command, "run", f"{served.server.url}/openapi.json"], served)
    cases = CASES.search(program.expect_success())
    assert cases is not None
    with capsys.disabled():
        print(f"\nschemathesis: {cases[0]}")  # noqa: T201 - how much was asked is part of the result
    assert cases[1] == cases[2]
    assert int(cases[1]) > 2000
