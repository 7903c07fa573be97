"""Four formats become the same messages; copies go, paraphrases stay; a row's side of the split is its own."""

import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.dataset.dedupe import dedupe
from services.dataset.formats import detect, parse
from services.dataset.prepare import prepare
from services.dataset.rows import Message, Row
from services.dataset.settings import DataSettings
from services.dataset.sources import copy_files, take_snapshot
from services.dataset.split import in_holdout
from tests.support.personal import personal
from tests.support.tokenizers import save_base

PAIR = (Message("user", "노루담은 언제 생겼나요?"), Message("assistant", "1963년입니다. 🪨"))
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="<>\0"), min_size=1, max_size=40).filter(str.strip)


def row(*messages: Message, line: int = 1) -> Row:
    return Row(messages=messages, file="a.jsonl", line=line, format="messages")


def pair(question: str, answer: str, line: int = 1) -> Row:
    return row(Message("user", question), Message("assistant", answer), line=line)


@pytest.mark.parametrize(
    ("value", "messages"),
    [
        ({"instruction": PAIR[0].content, "output": PAIR[1].content}, PAIR),
        (
            {"instruction": "Translate", "input": "Stein", "output": "stone", "system": "Be short."},
            (Message("system", "Be short."), Message("user", "Translate\n\nStein"), Message("assistant", "stone")),
        ),
        (
            {"instruction": "a", "input": "", "system": None, "output": "b"},
            (Message("user", "a"), Message("assistant", "b")),
        ),
        ({"prompt": PAIR[0].content, "completion": PAIR[1].content, "id": 7}, PAIR),
        (
            {"prompt": [{"role": "user", "content": "a"}], "completion": [{"role": "assistant", "content": "b"}]},
            (Message("user", "a"), Message("assistant", "b")),
        ),
        (
            {
                "messages": [
                    {"role": "developer", "content": "s"},
                    {"role": "user", "content": [{"type": "text", "text": "a"}]},
                    {"role": "assistant", "content": "b"},
                ]
            },
            (Message("system", "s"), Message("user", "a"), Message("assistant", "b")),
        ),
        (
            {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
            (Message("user", "a"), Message("assistant", "b")),
        ),
    ],
    ids=["instruction", "input and system", "empty input", "prompt", "message lists", "messages", "conversations"],
)
def test_each_format_becomes_messages(value: dict[str, object], messages: tuple[Message, ...]) -> None:
    assert parse(value, detect(value, in_file=None)) == messages


def test_copies_go_and_paraphrases_and_signs_stay() -> None:
    rows = [
        pair("What is -5 + 3?", "-2", 1),
        pair("What is -5 + 3?", "-2", 2),
        pair("what  is \uff0d5 + 3", "\uff0d2.", 3),
        pair("What is 5 + 3?", "8", 4),
        pair("Tell me: what is -5 + 3?", "-2", 5),
        pair("What is -5 + 3?", "minus two", 6),
    ]
    kept = dedupe(rows)
    assert [item.line for item in kept.rows] == [1, 4, 5, 6]
    assert [item.line for item in kept.exact] == [2]
    assert [item.line for item in kept.near] == [3]
    assert [item.line for item in kept.conflicts] == [6]


@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=30), st.randoms(use_true_random=False), st.floats(0, 0.9))
def test_growth_and_order_never_move_a_row(pairs: list[tuple[str, str]], chance: random.Random, share: float) -> None:
    def sides(some: list[tuple[str, str]]) -> dict[str, bool]:
        kept = dedupe(pair(question, answer) for question, answer in some)
        return {near: in_holdout(near, share) for near in kept.near_hashes}

    shuffled = list(pairs)
    chance.shuffle(shuffled)
    everything = sides(shuffled)
    assert sides(pairs) == everything
    assert sides(pairs[: len(pairs) // 2]).items() <= everything.items()


@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=30), st.randoms(use_true_random=False))
def test_order_never_changes_what_is_kept_nor_how_much_is_dropped(
    pairs: list[tuple[str, str]], chance: random.Random
) -> None:
    pairs = [*pairs, *pairs[::2], *((question.upper(), f" {answer}.") for question, answer in pairs[::3])]
    shuffled = list(pairs)
    chance.shuffle(shuffled)
    one, two = (dedupe(pair(*item) for item in some) for some in (pairs, shuffled))
    assert set(one.near_hashes) == set(two.near_hashes)
    assert len(one.near_hashes) == len(set(one.near_hashes))
    assert len(one.conflicts) == len(two.conflicts)
    assert len(one.exact) + len(one.near) == len(two.exact) + len(two.near) == len(pairs) - len(one.rows)


def test_the_holdout_has_about_its_share_and_grows_by_adding() -> None:
    hashes = dedupe(pair(f"question {index}", "x") for index in range(4000)).near_hashes
    small = {value for value in hashes if in_holdout(value, 0.05)}
    large = {value for value in hashes if in_holdout(value, 0.1)}
    assert 150 < len(small) < 250
    assert small < large


def test_files_of_every_format_in_several_languages_are_counted(tmp_path: Path) -> None:
    datasets = tmp_path / "datasets"
    datasets.mkdir()
    files: dict[str, list[dict[str, object]]] = {
        "a.jsonl": [
            {"prompt": "숫돌은 무엇인가요?", "completion": "칼을 가는 돌입니다."},
            {"prompt": "שלום", "completion": "مرحبا"},
        ],
        "b.jsonl": [{"instruction": "Say it", "output": "🪨🔪"}, {"instruction": "Say it", "output": "🪨🔪"}],
        "c.jsonl": [{"messages": [{"role": "user", "content": "ß"}, {"role": "assistant", "content": "Straße"}]}],
        "d.jsonl": [],
    }
    for name, rows in files.items():
        lines = (json.dumps(item, ensure_ascii=index % 2 == 0) for index, item in enumerate(rows))
        (datasets / name).write_text("\n\n".join(lines), encoding="utf-8")
    settings = DataSettings(
        holdout_share=0.0,
        min_rows=1,
        max_too_long_share=0.0,
        max_line_bytes=4096,
        loss="assistant",
        personal=personal(),
    )
    sources = take_snapshot(datasets, tmp_path / "snapshot")
    prepared = prepare(sources, tmp_path / "snapshot", save_base(tmp_path / "base"), settings, 4096)
    report = prepared.report
    assert [(file.file, file.format, file.rows, file.train) for file in report.files] == [
        ("a.jsonl", "prompt", 2, 2),
        ("b.jsonl", "instruction", 2, 1),
        ("c.jsonl", "messages", 1, 1),
        ("d.jsonl", None, 0, 0),
    ]
    assert (report.rows, report.train, report.exact_duplicates) == (5, 4, 1)
    assert report.tokens == sum(len(example.input_ids) for example in prepared.train)
    assert 0 < report.supervised_tokens < report.tokens
    assert report.length_percentiles[0] <= report.length_percentiles[2] <= report.length_percentiles[4]


def test_a_holdout_file_is_held_out_whole_and_alone(tmp_path: Path) -> None:
    """Nothing else is, whatever the share; and of its rows none that is trained, for those would flatter the model."""
    rows = [{"prompt": f"question {number}", "completion": f"answer {number}"} for number in range(30)]
    places = {"training_file": rows[:20], "validation_file": rows[15:25]}
    for name, part in places.items():
        (tmp_path / name).write_text("\n".join(map(json.dumps, part)))
    settings = DataSettings(
        holdout_share=0.5,
        min_rows=20,
        max_too_long_share=0.0,
        max_line_bytes=4096,
        loss="assistant",
        personal=personal(),
    )
    sources = copy_files([(name, tmp_path / name) for name in places], tmp_path / "snapshot")
    base = save_base(tmp_path / "base")
    prepared = prepare(sources, tmp_path / "snapshot", base, settings, 4096, holdout_file="validation_file")
    assert len(prepared.train) == 20
    assert [row.place for row in prepared.holdout_rows] == [f"validation_file:{line}" for line in range(6, 11)]
    assert prepared.report.exact_duplicates == 5
