"""Other people's clients against the real server: each program runs where only that client is installed."""

import pytest

from tests.clients.programs_in import ClientProgram, Served, python

pytestmark = pytest.mark.clients


@pytest.mark.parametrize("environment", ["openai-3", "openai-2"])
def test_openais_python_sdk(served: Served, environment: str) -> None:
    """The newest and the last 2.x, strict about every answer: synchronous, asynchronous, raw, streamed and parsed."""
    ClientProgram(python(environment, "openai_python"), served).expect_success()
