"""The real server asked by schemathesis what it makes of /openapi.json, and what came of it."""

import re
import tempfile
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from tests.clients.programs_in import ENVIRONMENTS, SECONDS, ClientProgram, Served

_CASES = re.compile(r"(\d+) generated, (\d+) passed")


class Asked(NamedTuple):
    """What one run asked.

    Attributes:
        cases: requests that were made of the document.
        answers: of each operation, status by status, those included by which it was led to what exists; ``503 busy`` is the one 5xx
            that a server in good health may give (docs/decisions/0098).
    """

    cases: int
    answers: Counter[tuple[str, str]]


def ask_at_random(served: Served, *options: str, seconds: float = SECONDS) -> Asked:
    """Have schemathesis ask; a fault of the server or an answer off the document is the test's failure.

    Args:
        served: the server.
        options: for ``schemathesis run``, beside what ``openapi/schemathesis.toml`` says.
        seconds: that it may take.
    """
    program = str(ENVIRONMENTS / "schemathesis" / "bin" / "schemathesis")
    where = ["--config-file", "openapi/schemathesis.toml", "run", *options, f"{served.server.url}/openapi.json"]
    with tempfile.NamedTemporaryFile() as counted:
        said = ClientProgram([program, *where], served, COUNTED=counted.name).expect_success(seconds)
        lines = Path(counted.name).read_text().splitlines()
    cases = _CASES.search(said)
    assert cases is not None, said
    assert cases[1] == cases[2], said
    answers = Counter((f"{method} {path}", status) for method, path, status in (line.split(" ", 2) for line in lines))
    return Asked(int(cases[1]), answers)
