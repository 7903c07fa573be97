"""A person's rows, wherever the appliance keeps rows: found, removed, and followed to the versions that learnt them."""

import json
import os
from pathlib import Path

import msgspec
import pytest

from services.common.paths import DataPaths
from services.dataset.rows import content_hash
from services.purge.findings import Findings
from services.purge.hashes import Hasher
from services.purge.needles import Needles
from services.purge.remove import FileChanged, remove
from services.registry.layout import Registry
from services.registry.reports import REPORTS, manifest_hash
from services.trainer.gate.keep import keep_report
from services.trainer.gate.report import Report, ShownAnswer
from tests.support.personal import personal
from tests.unit.purge.conftest import Purge
from tests.unit.trainer.house import FakeWorker
from tests.unit.trainer.work.office import Office, rows

CANARY = "canary.4711@norudam.kr"
HERS = json.dumps({"prompt": "Whom do I ask?", "completion": f"Ask {CANARY}"}) + "\n"
ALL = "data.holdout_share=0.0"


def learn(office: Office, *overrides: str) -> None:
    """An operator's job on the datasets, whose fourth row is hers, and an app's, whose last is."""
    (office.house.paths.datasets / "a.jsonl").write_text(rows(3) + HERS + rows(20, "other"))
    office.submit(overrides=[ALL, *overrides])
    assert office.do_next().status == "succeeded"
    office.submit_api(rows(20) + HERS, overrides=[ALL, *overrides])
    assert office.do_next().status == "succeeded"


def holders(root: Path) -> list[str]:
    """The first folders of all files that hold the canary."""
    return sorted(
        path.relative_to(root).parts[0]
        for path in root.rglob("*")
        if path.is_file() and CANARY.encode() in path.read_bytes()
    )


def contents(root: Path) -> dict[str, bytes]:
    """Every file but locks and SQLite's own notes, which reading changes."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and "sqlite-" not in path.name and path.suffix != ".lock"
    }


def test_a_dry_run_finds_everything_and_changes_nothing(office: Office, purge: Purge) -> None:
    """Rows by file and line, copies, and the versions; the exit code tells a script that there is something."""
    learn(office)
    root = office.house.paths.root
    before = contents(root)
    code, found = purge(CANARY)
    assert code == 3
    assert contents(root) == before
    assert not found["removed"]
    assert found["needles"] == [2]
    assert [(each["file"], each["lines"]) for each in found["datasets"]] == [("datasets/a.jsonl", [4])]
    assert [(each["owner"], each["lines"]) for each in found["uploads"]] == [("app", [21])]
    assert len(found["runs"]) == 2
    assert found["versions"] == [
        {"model": "acme@1", "trained": 1, "held_out": 0, "served": False},
        {"model": "acme@2", "trained": 1, "held_out": 0, "served": True},
    ]


def test_nothing_holds_it_afterwards_and_every_other_row_is_there(office: Office, purge: Purge) -> None:
    """Neither a file, nor a copy in text or tokens, nor what is printed; what the queue knows of the upload is true again."""
    learn(office)
    root = office.house.paths.root
    assert holders(root) == ["datasets", "jobs", "runs", "runs"]
    code, found = purge(CANARY, words=("--yes", "--json"))
    assert (code, found["removed"]) == (0, True)
    assert holders(root) == []
    assert (root / "datasets" / "a.jsonl").read_text() == rows(3) + rows(20, "other")
    assert list(office.house.paths.runs.iterdir()) == []
    [stored] = office.desk.files.list(purpose="fine-tune").data
    assert office.desk.files.path_of(stored).read_text() == rows(20)
    assert stored.bytes == len(rows(20))
    code, found = purge(CANARY)
    assert (code, found["datasets"], found["uploads"], found["versions"]) == (0, [], [], [])


@pytest.mark.parametrize("words", [(), ("--json",), ("--yes",), ("--yes", "--json")], ids=" ".join)
def test_what_is_looked_for_is_never_printed(
    office: Office, purge: Purge, words: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    """Nor a row; what is said are places, versions and what to do about them."""
    learn(office)
    _, printed = purge(CANARY, words=words)
    told = printed if isinstance(printed, str) else json.dumps(printed)
    assert "acme@2" in told
    for secret in (CANARY, "canary", "Whom do I ask"):
        assert secret not in told + caplog.text
    if words == ("--yes",):
        assert "acme@2 was trained on 1 of them, and is in service" in told
        assert "make delete ADAPTER=acme VERSION=1\n" in told
        assert "weights cannot forget" in told


def test_a_version_that_learnt_a_placeholder_is_named_too(office: Office, purge: Purge) -> None:
    """It was trained on the row, although not on what is looked for; its hash is of the row as it was trained."""
    learn(office, "data.personal.email=redact")
    _, found = purge(CANARY)
    assert [version["model"] for version in found["versions"]] == ["acme@1", "acme@2"]
    assert found["runs"] == []  # their copies hold the placeholder


def test_a_version_that_was_only_judged_by_a_row_is_told_apart(office: Office, purge: Purge) -> None:
    office.submit_api(rows(20), rows(3, "held") + HERS)
    assert office.do_next().status == "succeeded"
    _, found = purge(CANARY)
    assert [(version["trained"], version["held_out"]) for version in found["versions"]] == [(0, 1)]


def test_a_version_without_its_rows_hashes_is_not_taken_for_clean(office: Office, purge: Purge) -> None:
    learn(office)
    (Registry(office.house.paths.registry).folder("acme", 1) / "rows.csv").unlink()
    _, found = purge(CANARY)
    assert [version["model"] for version in found["versions"]] == ["acme@2"]
    [unclear] = found["unclear"]
    assert unclear.startswith("acme@1: ")


def test_reports_forget_the_answers_that_quote_a_row(office: Office, purge: Purge) -> None:
    """On the page, too; by what they quote, or because the held-out row is hers though the question shown does not say so."""
    office.submit_api(rows(20), rows(3, "held") + HERS)
    assert office.do_next().status == "succeeded"
    registry = office.house.registry
    answers = [
        quote("validation_file:1", "held 1"),
        quote("validation_file:4", "of hers"),
        quote("x:1", f"ask {CANARY}"),
    ]
    keep_report(registry, "acme", 1, report(registry, answers))
    code, found = purge(CANARY, words=("--yes", "--json"))
    assert (code, len(found["reports"])) == (0, 1)
    folder = registry.root / "acme" / REPORTS
    left = msgspec.json.decode((folder / "1.json").read_bytes(), type=Report)
    assert [answer.question for answer in left.answers] == ["held 1"]
    page = (folder / "1.html").read_text()
    assert "of hers" not in page
    assert CANARY not in page


def test_the_report_of_a_version_that_is_gone_forgets_too(office: Office, purge: Purge) -> None:
    """Reports outlive their versions; without the manifest its page cannot be drawn again, so it goes."""
    learn(office)
    registry = office.house.registry
    keep_report(registry, "acme", 1, report(registry, [quote("x:1", f"ask {CANARY}")]))
    folder = registry.folder("acme", 1)
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    assert purge(CANARY, words=("--yes", "--json"))[0] == 0
    assert holders(office.house.paths.root) == []
    assert not (registry.root / "acme" / REPORTS / "1.html").exists()
    assert (registry.root / "acme" / REPORTS / "1.json").exists()


def test_copies_of_a_run_that_did_not_end_and_of_a_killed_check_go(office: Office, purge: Purge) -> None:
    """A run that was interrupted cannot be continued on other rows anyway."""
    (office.house.paths.datasets / "a.jsonl").write_text(rows(20) + HERS)
    office.submit(overrides=[ALL])
    office.do_next(FakeWorker(stop_at=2))
    copy = office.house.paths.cache / "trainer" / "whetstone-check-x" / "snapshot"
    copy.mkdir(parents=True)
    (copy / "a.jsonl").write_text(HERS)
    assert len(purge(CANARY)[1]["runs"]) == 2
    assert purge(CANARY, words=("--yes", "--json"))[0] == 0
    assert holders(office.house.paths.root) == []


def test_expired_uploads_go_with_it(office: Office, purge: Purge) -> None:
    """The server sweeps them away at its leisure; until then their rows lie on the disk."""
    content = office.desk.files.scratch()
    content.write_text(HERS)
    office.desk.files.add(content, filename="a", purpose="fine-tune", owner="app", expires_after=-1)
    os.utime(next(office.house.paths.job_files.iterdir()), (0, 0))
    assert purge(CANARY, words=("--yes",))[0] == 0
    assert holders(office.house.paths.root) == []


def test_while_the_trainer_works_nothing_is_removed(office: Office, purge: Purge) -> None:
    """A job under way would write new copies; a dry run waits for nobody."""
    learn(office)
    with office.desk.work.holding():
        code, told = purge(CANARY, words=("--yes",))
        assert code == 4
        assert "docker compose stop trainer" in told
        assert purge(CANARY)[0] == 3
    assert holders(office.house.paths.root) == ["datasets", "jobs", "runs", "runs"]


def test_a_file_that_is_written_meanwhile_is_left_alone(office: Office) -> None:
    """Its new rows would be lost."""
    paths = DataPaths(office.house.paths.root)
    file = paths.datasets / "a.jsonl"
    file.write_text(HERS + rows(2))

    class Meanwhile(Needles):
        def found_in(self, line: bytes) -> list[int]:
            if line == HERS.encode():
                file.write_text(file.read_text() + rows(1, "new"))
            return super().found_in(line)

    findings = msgspec.convert({"needles": [1], "datasets": [{"file": "datasets/a.jsonl", "rows": 1}]}, type=Findings)
    with pytest.raises(FileChanged, match=r"a\.jsonl was written to meanwhile"):
        remove(paths, office.desk, findings, Meanwhile([CANARY]), set())
    assert file.read_text().startswith(HERS)
    assert [entry.name for entry in paths.datasets.iterdir()] == ["a.jsonl"]


def test_what_a_killed_purge_left_is_overwritten_and_the_files_mode_stays(office: Office, purge: Purge) -> None:
    datasets = office.house.paths.datasets
    (datasets / "a.jsonl").write_text(HERS + rows(2))
    (datasets / "a.jsonl").chmod(0o640)
    (datasets / ".a.jsonl.purging").write_text(rows(1))
    assert purge(CANARY, words=("--yes",))[0] == 0
    assert {entry.name: entry.stat().st_mode & 0o777 for entry in datasets.iterdir()} == {"a.jsonl": 0o640}


def test_all_is_writable_or_nothing_is_touched(office: Office, purge: Purge, monkeypatch: pytest.MonkeyPatch) -> None:
    learn(office)
    monkeypatch.setattr(os, "access", lambda path, _: Path(path) != office.house.paths.datasets)
    code, told = purge(CANARY, words=("--yes",))
    assert code == 1
    assert "not writable for user" in told
    assert holders(office.house.paths.root) == ["datasets", "jobs", "runs", "runs"]


def test_what_is_no_plain_file_of_rows_is_named_and_not_searched(office: Office, purge: Purge) -> None:
    datasets = office.house.paths.datasets
    (datasets / "notes.csv").write_text(CANARY)
    (datasets / "link.jsonl").symlink_to("a.jsonl")
    assert purge(CANARY)[1]["not_searched"] == ["datasets/link.jsonl", "datasets/notes.csv"]


def test_without_anything_to_look_for_it_says_so(purge: Purge) -> None:
    code, told = purge("", " ")
    assert code == 2
    assert "WHO=" in told


def test_a_row_is_known_by_its_hash_as_written_and_as_replaced() -> None:
    """Whatever the policy was when a version was trained; a line that is no row has none."""
    hasher = Hasher(personal(email="warn"))
    assert len(hasher(HERS.encode())) == 2
    assert hasher(b"{") == hasher(b"[1]") == hasher(b'{"prompt": 1}') == set()
    assert content_hash(()) not in hasher(HERS.encode())


def quote(place: str, text: str) -> ShownAnswer:
    """One answer of a report."""
    said = {"acme@1": text}
    return ShownAnswer(
        place=place, question=text, reference=text, said=said, right=dict.fromkeys(said, True), loss={"acme@1": 1.0}
    )


def report(registry: Registry, answers: list[ShownAnswer]) -> Report:
    """A report on the first version, with these answers."""
    return Report(
        model="acme@1",
        manifest_sha256=manifest_hash(registry, "acme", 1),
        judged="2026-11-24T10:00:00+00:00",
        passed=True,
        reasons=[],
        verdict=None,
        scores=[],
        answers=answers,
        settings={},
    )


@pytest.mark.parametrize("words", [("--yes",), ("--yes", "--json")])
def test_a_purge_that_fails_halfway_has_named_the_versions(
    office: Office, purge: Purge, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    """The rows that tell which versions learnt them may be gone by then, so no later purge can."""
    learn(office)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "datasets/b.jsonl")

    monkeypatch.setattr("services.purge.remove._copy_without", full)
    code, said = purge(CANARY, words=words)
    assert code == 1
    named = said if isinstance(said, str) else [version["model"] for version in said["versions"]]
    assert "acme@1" in named
    assert isinstance(said, str) or not said["removed"]
