"""What preview shows is what the base model reads, with what is learnt marked, and nothing in it steers the terminal."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from services.dataset.faults import DataRefused
from services.dataset.preview import PreviewedRow, preview, print_preview
from services.dataset.settings import DataSettings
from tests.support.personal import personal
from tests.support.tokenizers import save_base

SETTINGS = DataSettings(
    holdout_share=0.0, min_rows=1, max_too_long_share=0.5, max_line_bytes=2048, loss="assistant", personal=personal()
)
ROWS = [
    {"prompt": "노루담은 언제 생겼나요?", "completion": "1963년입니다. 🪨"},
    {"prompt": "[bold]שלום[/bold]", "completion": "👩‍🚒 مرحبا"},
    {"prompt": "c", "completion": "d"},
]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
def datasets(tmp_path: Path) -> Path:
    folder = tmp_path / "datasets"
    folder.mkdir()
    (folder / "a.jsonl").write_text("\n".join(json.dumps(row) for row in ROWS) + "\nnot json\n")
    (folder / "b.jsonl").write_text(json.dumps(ROWS[0]))
    return folder


def show(datasets: Path, base: Path, *, rows: int = 3, row: str | None = None) -> list[PreviewedRow]:
    return preview(datasets, base, SETTINGS, rows=rows, row=row)


def printed(of: list[PreviewedRow], **options: object) -> str:
    console = Console(**{"file": io.StringIO(), "width": 60, **options})  # type: ignore[arg-type]  # of any option
    print_preview(of, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_pieces_are_the_whole_text_and_the_learnt_ones_are_the_answers(datasets: Path, base: Path) -> None:
    first, second, _ = show(datasets, base)
    assert [item.row for item in (first, second)] == ["a.jsonl:1", "a.jsonl:2"]
    answer = "1963년입니다. 🪨<|im_end|>"
    question = "<|im_start|>user\n노루담은 언제 생겼나요?<|im_end|>\n<|im_start|>assistant\n"
    assert first.pieces == [(question, False), (answer, True), ("\n", False)]
    assert second.pieces[1] == ("👩‍🚒 مرحبا<|im_end|>", True)
    assert first.learnt_tokens == len(answer.removesuffix("<|im_end|>").encode()) + 1


@pytest.mark.parametrize("colourless", [{}, {"force_terminal": True, "color_system": "truecolor", "no_color": True}])
def test_without_colour_the_learnt_is_in_brackets(colourless: dict[str, object], datasets: Path, base: Path) -> None:
    text = printed(show(datasets, base), **colourless)
    assert "assistant\n[[1963년입니다. 🪨<|im_end|>]]\n" in text
    assert "[bold]שלום[/bold]" in text
    assert "a.jsonl:2: " in text


def test_on_a_terminal_the_learnt_is_coloured(datasets: Path, base: Path) -> None:
    text = printed(show(datasets, base, rows=1), force_terminal=True, color_system="truecolor")
    assert "\x1b[1;32m1963년입니다. 🪨<|im_end|>\x1b[0m" in text
    assert "[[" not in text


@pytest.mark.parametrize("sign", ["\x1b[2J", "\x07", "\x9b2J", "\u202e", "\u2066", "\r"])
def test_what_would_steer_the_terminal_is_shown_as_an_escape(sign: str, datasets: Path, base: Path) -> None:
    (datasets / "a.jsonl").write_text(json.dumps({"prompt": f"a{sign}b", "completion": "x"}))
    text = printed(show(datasets, base, rows=1))
    assert sign not in text
    assert f"a{ascii(sign)[1:-1]}b" in text


@pytest.mark.parametrize(("rows", "count"), [(-1, 0), (0, 0), (2, 2)])
def test_as_many_rows_as_asked_for_are_shown(rows: int, count: int, datasets: Path, base: Path) -> None:
    assert len(show(datasets, base, rows=rows)) == count


def test_one_row_is_found_behind_faulty_ones_and_in_other_files(datasets: Path, base: Path) -> None:
    (datasets / "a.jsonl").write_text("not json\n" + json.dumps(ROWS[2]))
    assert [item.row for item in show(datasets, base, row="a.jsonl:2")] == ["a.jsonl:2"]
    assert [item.row for item in show(datasets, base, row="b.jsonl:1")] == ["b.jsonl:1"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("a.jsonl:4", "a.jsonl:4: is not JSON"),
        ("a.jsonl:5", "a.jsonl:5: no such row"),
        ("c.jsonl:1", "c.jsonl:1: no such row"),
        ("a.jsonl", "a.jsonl: no such row"),
    ],
)
def test_a_row_that_is_faulty_or_not_there_is_named(row: str, reason: str, datasets: Path, base: Path) -> None:
    with pytest.raises(DataRefused, match=reason):
        show(datasets, base, row=row)


def test_a_faulty_row_among_the_first_is_refused(datasets: Path, base: Path) -> None:
    with pytest.raises(DataRefused, match=r"a\.jsonl:4: is not JSON"):
        show(datasets, base, rows=4)
    (datasets / "a.jsonl").write_text(json.dumps({"prompt": "<|im_end|>", "completion": "x"}))
    with pytest.raises(DataRefused, match="spells the special token"):
        show(datasets, base, rows=1)
