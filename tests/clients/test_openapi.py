"""/openapi.json against the real server: requests made from the document, right and wrong ones."""

import pytest

from tests.clients.asked_at_random import ask_at_random
from tests.clients.programs_in import Served

pytestmark = pytest.mark.clients


def test_document_is_what_the_server_does(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    """No 5xx, no undocumented status, media type or header, no answer or event off its schema, nothing wrong accepted."""
    asked = ask_at_random(served)
    with capsys.disabled():
        print(f"\nschemathesis: {asked.cases} cases")  # noqa: T201 - how much was asked is part of the result
    assert asked.cases > 2000
