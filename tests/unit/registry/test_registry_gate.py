"""Promotion and the gate's verdict, the history of moves, and what is known of a version's origin."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from services.registry.__main__ import main
from services.registry.errors import RegistryError
from services.registry.history import HISTORY, read_history
from services.registry.layout import MANIFEST, Registry
from services.registry.pointer import promote, read_pointer, rollback
from services.registry.publish import publish, staging
from services.registry.reports import objections, read_judgement, report_file
from services.registry.rows import ROWS, RowFate, encode_rows, read_rows
from tests.support.adapters import lineage, publish_adapter, write_adapter, write_judgement

ROW_FATES = [
    RowFate("train", "faq.jsonl", 1, "a" * 64),
    RowFate("holdout", "faq.jsonl", 2, "b" * 64),
    RowFate("near duplicate", 'odd, "name".jsonl', 3, "c" * 64),
]


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """One version in service, a second beside it."""
    monkeypatch.setenv("WHETSTONE_DATA", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "60")  # as wide as a pipe is taken for, or less
    registry = Registry(tmp_path / "registry")
    for _ in range(2):
        publish_adapter(registry)
    promote(registry, "acme", 1, how="gate")
    return registry


def _in_service(registry: Registry) -> int:
    pointer = read_pointer(registry, "acme")
    assert pointer is not None
    return pointer.version


def test_a_version_that_did_not_pass_is_not_promoted(registry: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither one that was never judged nor one that was refused; the reasons and the way around are told."""
    assert main(["promote", "--version", "2"]) == 1
    assert "it was not judged (`make judge VERSION=2`)" in capsys.readouterr().err
    write_judgement(registry, 2, "answers end: 10% end by themselves")
    assert main(["promote", "--version", "2"]) == 1
    said = capsys.readouterr().err
    assert "answers end: 10% end by themselves" in said
    assert "FORCE=1" in said
    assert _in_service(registry) == 1


def test_a_forced_promotion_is_recorded_with_what_spoke_against_it(registry: Registry) -> None:
    """The history tells an auditor which version went around the gate, when, and why it had been refused."""
    write_judgement(registry, 2, "answers end: 10% end by themselves")
    assert main(["promote", "--version", "2", "--force"]) == 0
    assert _in_service(registry) == 2
    last = read_history(registry, "acme")[-1]
    assert (last.version, last.before, last.how) == (2, 1, "forced")
    assert last.reasons == ["answers end: 10% end by themselves"]


def test_force_on_a_version_that_passed_is_an_ordinary_promotion(registry: Registry) -> None:
    write_judgement(registry, 2)
    assert main(["promote", "--version", "2", "--force"]) == 0
    assert read_history(registry, "acme")[-1].how == "operator"


def test_a_report_on_other_bytes_says_nothing(registry: Registry) -> None:
    """A version that was replaced behind the registry's back is judged anew."""
    write_judgement(registry, 2)
    assert objections(registry, "acme", 2) == []
    manifest = registry.folder("acme", 2) / MANIFEST
    manifest.write_bytes(manifest.read_bytes() + b"\n")
    assert read_judgement(registry, "acme", 2) is None
    assert objections(registry, "acme", 2) == ["it was not judged (`make judge VERSION=2`)"]


def test_a_report_that_cannot_be_read_stops_a_promotion(registry: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    """It could have been a refusal."""
    write_judgement(registry, 2)
    report_file(registry, "acme", 2, "json").write_text("{")
    assert main(["promote", "--version", "2"]) == 1
    assert "make judge VERSION=2" in capsys.readouterr().err
    assert main(["versions", "--json"]) == 0
    assert [row["gate"] for row in json.loads(capsys.readouterr().out)] == ["not judged", "unreadable"]


def test_the_history_has_every_move_and_outlives_a_line_cut_short(registry: Registry) -> None:
    """A kill in the middle of a line loses that line, not the next."""
    promote(registry, "acme", 2)
    with (registry.root / "acme" / HISTORY).open("ab") as stream:
        stream.write(b'{"moved": "2026')
    rollback(registry, "acme")
    moves = [(move.before, move.version, move.how) for move in read_history(registry, "acme")]
    assert moves == [(None, 1, "gate"), (1, 2, "operator"), (2, 1, "rollback")]


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    (tmp_path / ROWS).write_bytes(encode_rows(ROW_FATES))
    assert read_rows(tmp_path) == ROW_FATES


@pytest.mark.parametrize("content", ["use,file,line,sha256\ntrain,x\n", "use,file,line,sha256\nburnt,x,1,a\n"])
def test_rows_that_are_damaged_are_an_error_with_the_file(tmp_path: Path, content: str) -> None:
    (tmp_path / ROWS).write_text(content)
    with pytest.raises(RegistryError, match=ROWS):
        read_rows(tmp_path)


def test_lineage_says_what_made_a_version_and_how_it_came_into_service(
    registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    """As JSON with everything, for people with the same, and the rows' hashes on demand."""
    write_judgement(registry, 2, "held-out loss improves: it does not")
    promote(registry, "acme", 2, how="forced", reasons=["held-out loss improves: it does not"])
    assert main(["lineage", "--version", "2", "--json"]) == 0
    found: Any = json.loads(capsys.readouterr().out)
    assert found["model"] == "acme@2"
    assert found["manifest"]["base"]["name"] == "tiny-base"
    assert found["judgement"]["passed"] is False
    assert [move["how"] for move in found["moves"]] == ["forced"]
    assert main(["lineage", "--version", "2"]) == 0
    shown = capsys.readouterr().out
    for part in ("acme@2", "tiny-base", found["manifest_sha256"], "refused", "by forced, although held-out loss"):
        assert part in shown
    assert main(["lineage", "--version", "2", "--rows"]) == 1
    assert "without its rows' hashes" in capsys.readouterr().err


def test_lineage_lists_the_rows_of_a_version(registry: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    """Hash, use and place of each; the file is part of the version and of its manifest."""
    with staging(registry, "acme") as staged:
        write_adapter(staged)
        (staged / ROWS).write_bytes(encode_rows(ROW_FATES))
        manifest = publish(registry, "acme", staged, lineage())
    assert ROWS in manifest.files
    assert main(["lineage", "--version", "3", "--rows"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == f"{'a' * 64}  train  faq.jsonl:1"


def test_a_pointer_of_the_release_before_is_read(registry: Registry) -> None:
    """An upgrade needs no migration: a pointer and versions without history or reports serve on and can be rolled back."""
    promote(registry, "acme", 2)
    (registry.root / "acme" / HISTORY).unlink()
    assert read_history(registry, "acme") == []
    assert msgspec.to_builtins(rollback(registry, "acme"))["version"] == 1
