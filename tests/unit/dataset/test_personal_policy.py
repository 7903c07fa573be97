"""What is done about likely personal data: told, replaced in what is trained, or refused; by place and kind, never by content."""

import io
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from services.dataset.faults import DataRefused
from services.dataset.personal.copies import redact_files
from services.dataset.personal.inspector import PLACEHOLDERS, Inspector
from services.dataset.personal.report import MAX_PLACES
from services.dataset.personal.settings import Kind, Policy
from services.dataset.prepare import Prepared, prepare
from services.dataset.preview import preview
from services.dataset.report import print_report
from services.dataset.settings import DataSettings
from services.dataset.sources import take_snapshot
from tests.support.personal import OF_KIND, personal
from tests.support.tokenizers import byte_tokenizer, save_base

PHONE = OF_KIND["phone"]
EMAIL = OF_KIND["email"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("base"))


def data_settings(**policies: Any) -> DataSettings:
    return DataSettings(
        holdout_share=0.0,
        min_rows=1,
        max_too_long_share=0.5,
        max_line_bytes=65_536,
        loss="assistant",
        personal=personal(**policies),
    )


class Data:
    """A folder of rows, and its copy."""

    def __init__(self, root: Path, base: Path) -> None:
        self.folder, self.snapshot, self._base = root / "datasets", root / "snapshot", base
        self.folder.mkdir()

    def write(self, *rows: object) -> bytes:
        """Put rows into ``a.jsonl``; its bytes."""
        text = "".join(f"{json.dumps(row)}\n" for row in rows)
        (self.folder / "a.jsonl").write_text(text)
        return text.encode()

    def prepare(self, **policies: Any) -> Prepared:
        """Everything up to training."""
        sources = take_snapshot(self.folder, self.snapshot)
        return prepare(sources, self.snapshot, self._base, data_settings(**policies), 4096)


@pytest.fixture
def data(tmp_path: Path, base: Path) -> Data:
    return Data(tmp_path, base)


def row(answer: str, **more: Any) -> dict[str, Any]:
    return {"prompt": "Whom do I ask?", "completion": answer, **more}


def texts(prepared: Prepared) -> str:
    return "\n".join(byte_tokenizer().decode(example.input_ids) for example in prepared.train)


@pytest.mark.parametrize("kind", OF_KIND)
def test_what_is_warned_of_is_trained_and_counted_with_its_places(data: Data, kind: Kind) -> None:
    data.write(row(f"Ask {OF_KIND[kind]}, or {OF_KIND[kind]}"), row("Nobody"), row(f"Try {OF_KIND[kind]}"))
    prepared = data.prepare(**{kind: "warn"})
    [report] = prepared.report.personal
    assert (report.kind, report.policy, report.count, report.rows) == (kind, "warn", 3, 2)
    assert report.places == ["a.jsonl:1", "a.jsonl:3"]
    assert OF_KIND[kind] in texts(prepared)


@pytest.mark.parametrize("kind", OF_KIND)
def test_what_is_replaced_is_neither_trained_nor_kept_in_the_runs_copy(data: Data, kind: Kind) -> None:
    """Notes that are not trained included; the operator's own file stays as it is, and so does a line without a find."""
    written = data.write(row(f"Ask {OF_KIND[kind]} now", note=[{"by": OF_KIND[kind]}]), row("Nobody"))
    prepared = data.prepare(**{kind: "redact"})
    redact_files(data.snapshot, prepared.report, personal(**{kind: "redact"}))
    assert f"Ask {PLACEHOLDERS[kind]} now" in texts(prepared)
    assert OF_KIND[kind] not in texts(prepared)
    copy = (data.snapshot / "a.jsonl").read_text()
    assert OF_KIND[kind] not in copy
    assert json.loads(copy.splitlines()[0])["note"] == [{"by": PLACEHOLDERS[kind]}]
    assert copy.splitlines()[1] == json.dumps(row("Nobody"))
    assert (data.folder / "a.jsonl").read_bytes() == written
    assert [path.name for path in data.snapshot.iterdir()] == ["a.jsonl"]
    [report] = prepared.report.personal
    assert (report.count, report.rows) == (2, 1)


def test_a_run_of_the_copy_is_the_run_of_the_rows(data: Data, tmp_path: Path, base: Path) -> None:
    """What was replaced is not found again, and every row keeps its hash."""
    data.write(*(row(f"Ask {text} 🪨") for text in OF_KIND.values()))
    policies = dict.fromkeys(OF_KIND, "redact")
    prepared = data.prepare(**policies)
    redact_files(data.snapshot, prepared.report, personal(**policies))
    (tmp_path / "again").mkdir()
    copied = Data(tmp_path / "again", base)
    (copied.folder / "a.jsonl").write_bytes((data.snapshot / "a.jsonl").read_bytes())
    again = copied.prepare(**policies)
    assert again.report.personal == []
    assert again.fates == prepared.fates


def test_what_is_refused_is_a_fault_of_its_field_beside_every_other_fault(data: Data) -> None:
    turns = [{"role": "user", "content": EMAIL}, {"role": "assistant", "content": f"{PHONE} <|im_end|>"}]
    data.write({"messages": turns}, {"messages": [{"role": "wizard", "content": PHONE}]}, {"messages": turns[:1]})
    with pytest.raises(DataRefused) as refused:
        data.prepare(email="refuse", phone="refuse")
    told = [(fault.line, fault.field, fault.reason) for fault in refused.value.faults]
    assert sorted(told) == [
        (1, "messages[0].content", "holds a likely e-mail address"),
        (1, "messages[1].content", "holds a likely phone number"),
        (1, "turn 2 (assistant)", "spells the special token <|im_end|>"),
        (2, "messages[0].content", "holds a likely phone number"),
        (2, "messages[0].role", "is not a known role"),
        (3, "", "has no assistant turn"),
        (3, "messages[0].content", "holds a likely e-mail address"),
    ]
    assert 'Remove it, or set data.personal.phone to "redact" or "warn"' in str(refused.value)


def test_a_field_that_is_not_the_formats_is_not_named(data: Data) -> None:
    """Its name may be what nobody is to read."""
    data.write(row("Nobody", notes={EMAIL: {"tel": PHONE}}))
    with pytest.raises(DataRefused) as refused:
        data.prepare(phone="refuse")
    assert [fault.field for fault in refused.value.faults] == ["a key of your own"]
    assert EMAIL not in str(refused.value)


def test_a_check_is_replaced_with_the_answer_it_is_of() -> None:
    """So a held-out row can still be answered right."""
    value = row(f"Ask {EMAIL}", check={"contains": EMAIL})
    assert Inspector(personal(email="redact"))(value, "a.jsonl", 1) == []
    assert value["check"] == {"contains": "[E-MAIL]"}
    assert value["completion"] == "Ask [E-MAIL]"


def test_rows_that_differ_in_nothing_but_what_is_replaced_are_one(data: Data) -> None:
    data.write(row("Ask a1@norudam.kr"), row("Ask a2@norudam.kr"))
    report = data.prepare(email="redact").report
    assert (report.train, report.exact_duplicates) == (1, 1)


def test_preview_shows_what_is_trained(data: Data, base: Path) -> None:
    data.write(row(f"Ask {EMAIL}"))
    [shown] = preview(data.folder, base, data_settings(email="redact"), rows=3, row=None)
    assert "[E-MAIL]" in "".join(text for text, _ in shown.pieces)
    assert EMAIL not in str(shown)


def test_a_row_nested_deeper_than_pythons_stack_is_looked_through() -> None:
    nested: Any = [PHONE]
    for _ in range(100_000):
        nested = [nested]
    value = {"note": nested}
    inspector = Inspector(personal(phone="redact"))
    assert inspector(value, "a.jsonl", 1) == []
    assert [report.count for report in inspector.reports] == [1]


@pytest.mark.parametrize("policy", ["warn", "redact", "refuse"])
def test_nothing_that_is_told_holds_what_was_found(data: Data, policy: Policy) -> None:
    """Neither the report for people, nor that of the manifest, nor a refusal; however many rows there are, they are bounded."""
    canary = "canary.4711@norudam.kr"
    data.write(*(row(f"Ask {canary}, {number}") for number in range(MAX_PLACES + 20)))
    try:
        report = data.prepare(email=policy).report
    except DataRefused as refused:
        assert policy == "refuse"
        said = str(refused) + msgspec.json.encode(refused.faults).decode()
    else:
        console = Console(file=io.StringIO(), width=80)
        print_report(report, console)
        assert isinstance(console.file, io.StringIO)
        said = console.file.getvalue() + msgspec.json.encode(report).decode()
        kept = {"warn": "kept", "redact": "replaced in what is trained"}[policy]
        assert f"likely personal data: 1,020 e-mail addresses ({kept}): a.jsonl:1, a.jsonl:2, " in said
        assert "a.jsonl:10 and 1,010 more rows" in said
        assert (report.personal[0].rows, len(report.personal[0].places)) == (MAX_PLACES + 20, MAX_PLACES)
    assert "4711" not in said
