"""A job whose rows hold likely personal data: what its owner is told, and where the data end up."""

import json
from pathlib import Path

import pytest

from tests.unit.trainer.work.office import Office, rows

CANARY = "canary.4711@norudam.kr"
PERSONAL = json.dumps({"prompt": "Whom do I ask?", "completion": f"Ask {CANARY}"}) + "\n"


@pytest.mark.parametrize(("policy", "done"), [("warn", "kept"), ("redact", "replaced in what is trained")])
def test_the_owner_is_told_of_them_in_counts(office: Office, policy: str, done: str) -> None:
    job = office.submit_api(rows(20) + PERSONAL, overrides=[f"data.personal.email={policy}"])
    assert office.do_next().status == "succeeded"
    [told] = [event for event in office.events(job) if "personal" in event.message]
    assert told.message == f"The rows hold likely personal data: 1 e-mail address ({done})"
    assert (told.level, told.data) == ("warn", {"email": 1})


def test_a_job_is_refused_by_field_and_kind(office: Office) -> None:
    office.submit_api(rows(20) + PERSONAL, overrides=["data.personal.email=refuse"])
    failed = office.do_next()
    assert failed.failure is not None
    assert failed.failure.code == "invalid_training_file"
    assert "training_file:21: completion: holds a likely e-mail address" in failed.failure.message
    assert holders(office.house.paths.root) == ["jobs/files"]


def test_what_is_replaced_is_in_no_file_but_the_one_that_was_sent(office: Office) -> None:
    """Not in the run's copy, the registry or the queue; where it is only warned of, in the run's copy."""
    office.submit_api(rows(20) + PERSONAL, overrides=["data.personal.email=redact"])
    assert office.do_next().status == "succeeded"
    assert holders(office.house.paths.root) == ["jobs/files"]
    office.submit_api(rows(20) + PERSONAL, overrides=["data.personal.email=warn"])
    office.do_next()
    assert holders(office.house.paths.root) == ["jobs/files", "jobs/files", "runs/snapshot"]


def holders(root: Path) -> list[str]:
    """The folders of all files that hold the canary."""
    found = []
    for path in sorted(root.rglob("*")):
        content = path.read_bytes() if path.is_file() else b""
        if CANARY.encode() in content:
            parts = path.relative_to(root).parts
            found.append(f"{parts[0]}/{parts[-2]}")
    return found
