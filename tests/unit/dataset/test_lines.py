"""Bytes become objects or faults; nothing in a file ends in a traceback or gets lost without a word."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.dataset.faults import Fault
from services.dataset.formats import Unfit, detect, parse
from services.dataset.lines import read_objects
from services.dataset.personal.inspector import Inspector
from services.dataset.prepare import read_rows
from services.dataset.rows import Message, Row
from tests.support.fuzz import fuzz, mangled
from tests.support.personal import personal

LIMIT = 4096


def read(folder: Path, content: bytes, limit: int = LIMIT) -> list[tuple[int, dict[str, Any]] | Fault]:
    (folder / "a.jsonl").write_bytes(content)
    return list(read_objects(folder / "a.jsonl", "a.jsonl", max_line_bytes=limit))


def test_lines_keep_their_numbers_across_blank_ones_and_any_line_end(tmp_path: Path) -> None:
    content = '{"a": "한국어"}\r\n\r\n  \n{"b": "\u2028"}\n\n{"c": "שלום 🪨"}'.encode()
    assert read(tmp_path, content) == [(1, {"a": "한국어"}), (4, {"b": "\u2028"}), (6, {"c": "שלום 🪨"})]


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_last_line_cut_anywhere_says_that_it_is_cut_off(cut: int, tmp_path: Path) -> None:
    whole = '{"prompt": "노루담"}'.encode()
    [fault] = read(tmp_path, whole[:-cut])
    assert isinstance(fault, Fault)
    assert "cut off" in fault.reason
    assert "The last line is incomplete" in fault.remedy


def test_a_wrong_byte_in_the_middle_of_the_last_line_is_no_cut(tmp_path: Path) -> None:
    [fault] = read(tmp_path, b'{"a": "\xff", "b": 1')
    assert isinstance(fault, Fault)
    assert fault.reason == "is not UTF-8 at byte 8 of the line"


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_line_is_measured_without_its_end(end: bytes, tmp_path: Path) -> None:
    line = b'{"a": "' + b"x" * 91 + b'"}'
    assert len(line) == 100
    assert read(tmp_path, line + end, limit=100) == [(1, {"a": "x" * 91})]
    [fault, after] = read(tmp_path, b" " + line + b'\n{"b": 1}' + end, limit=100)
    assert isinstance(fault, Fault)
    assert after == (2, {"b": 1})


def test_a_line_of_a_gibibyte_is_passed_over_within_bounded_memory(tmp_path: Path) -> None:
    """Of it four times what a line may have is held at most: pieces, and their sum."""
    file, limit = tmp_path / "a.jsonl", 1 << 20
    with file.open("wb") as stream:
        stream.seek(1 << 30)  # what lies before are zeros, which take no room on the disk
        stream.write(b'\n{"a": 1}\n')
    tracemalloc.start()
    try:
        [fault, after] = read_objects(file, "a.jsonl", max_line_bytes=limit)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert isinstance(fault, Fault)
    assert (fault.line, after) == (1, (2, {"a": 1}))
    assert peak < 4 * limit


def test_deep_nesting_with_escapes_is_a_row_or_a_fault(tmp_path: Path) -> None:
    for depth in (500, 900, 970, 990, 5000):
        nested = '{"\\u0061": ' + "[" * depth + '"\\ud800"' + "]" * depth + "}"
        [fault] = read(tmp_path, nested.encode(), limit=100_000)
        assert isinstance(fault, Fault)
        assert fault.reason in ("holds half of a surrogate pair", "is nested too deeply")


@pytest.mark.parametrize("text", ["\\ud83d\\ude80", "\\u0041", "\\\\ud83d"])
def test_whole_escapes_are_text(text: str, tmp_path: Path) -> None:
    content = f'{{"a": "{text}"}}'
    assert read(tmp_path, content.encode()) == [(1, json.loads(content))]


@pytest.mark.parametrize("place", ['{"a": {"\\udfff": 1}}', '{"a": [[{"b": "\\ud83dx"}]]}', '{"\\ud83d": 1}'])
def test_half_an_escape_is_found_in_keys_and_at_any_depth(place: str, tmp_path: Path) -> None:
    [fault] = read(tmp_path, place.encode())
    assert isinstance(fault, Fault)
    assert fault.reason == "holds half of a surrogate pair"


def test_a_number_of_any_length_is_read_or_a_fault(tmp_path: Path) -> None:
    [fault] = read(tmp_path, b'{"a": ' + b"9" * 6000 + b"}\n", limit=10_000)
    assert isinstance(fault, Fault)
    assert fault.reason == "is not JSON"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
TURN = st.fixed_dictionaries(
    {},
    optional={
        "role": st.sampled_from(["user", "assistant", "system", "developer", "tool", 7]),
        "from": st.sampled_from(["human", "gpt", "system", "observation"]),
        "content": VALUES,
        "value": VALUES,
        "weight": VALUES,
        "tool_calls": VALUES,
    },
)
ROWS = st.fixed_dictionaries(
    {},
    optional={
        "messages": VALUES | st.lists(TURN, max_size=4),
        "conversations": VALUES | st.lists(TURN, max_size=4),
        "prompt": VALUES | st.lists(TURN, max_size=2),
        "completion": VALUES | st.lists(TURN, max_size=2),
        "instruction": VALUES,
        "input": VALUES,
        "output": VALUES,
        "system": VALUES,
    },
)


@fuzz
@given(value=ROWS | VALUES)
@example(value={"messages": [{"role": "user", "content": "a", "weight": []}]})
def test_any_json_is_a_trainable_row_or_unfit(value: Any) -> None:
    if not isinstance(value, dict):
        return
    try:
        messages = parse(value, detect(value, in_file=None))
    except Unfit:
        return
    assert messages[-1].role == "assistant"
    assert all(message.content.strip() for message in messages)


SOUND = b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n'


@fuzz
@given(
    content=st.binary(max_size=200)
    | mangled(SOUND + SOUND)
    | st.lists(ROWS.map(lambda row: json.dumps(row).encode()), max_size=8).map(b"\n".join)
)
def test_any_bytes_are_rows_or_faults_of_their_line(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.getbasetemp()
    (folder / "any.jsonl").write_bytes(content)
    items = list(read_rows(folder / "any.jsonl", "any.jsonl", Inspector(personal()), max_line_bytes=LIMIT))
    written = [number for number, line in enumerate(content.split(b"\n"), start=1) if line.strip()]
    assert [item.line for item in items] == written


def rows(folder: Path, *values: object) -> list[Row | Fault]:
    (folder / "a.jsonl").write_text("".join(json.dumps(value) + "\n" for value in values))
    return list(read_rows(folder / "a.jsonl", "a.jsonl", Inspector(personal()), max_line_bytes=LIMIT))


PAIR = (Message("user", "a"), Message("assistant", "b"))
AS_MESSAGES = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
WITH_SYSTEM = [
    {"messages": AS_MESSAGES},
    {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
    {"prompt": "a", "completion": "b"},
    {"prompt": AS_MESSAGES[:1], "completion": AS_MESSAGES[1:]},
    {"instruction": "a", "output": "b"},
]


@pytest.mark.parametrize("value", WITH_SYSTEM, ids="+".join)
def test_a_system_text_beside_the_turns_is_read_in_every_format(value: dict[str, object], tmp_path: Path) -> None:
    [row] = rows(tmp_path, value | {"system": "Be short."})
    assert isinstance(row, Row)
    assert row.messages == (Message("system", "Be short."), *PAIR)


def test_two_system_messages_are_refused(tmp_path: Path) -> None:
    turns = [{"role": "system", "content": "s"}, *AS_MESSAGES]
    [fault] = rows(tmp_path, {"messages": turns, "system": "Be short."})
    assert isinstance(fault, Fault)
    assert "system message that is not first" in fault.reason


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("tools", [{"type": "function"}]),
        ("images", ["a.png"]),
        ("history", [["a", "b"]]),
        ("reasoning_content", "Geheimnis"),
    ],
)
def test_keys_that_change_what_a_row_means_are_refused_and_empty_ones_are_not(
    key: str, value: object, tmp_path: Path
) -> None:
    turns = [AS_MESSAGES[0], AS_MESSAGES[1] | {key: value}]
    for full, place in (({"messages": AS_MESSAGES, key: value}, key), ({"messages": turns}, f"messages[1].{key}")):
        [fault] = rows(tmp_path, full)
        assert isinstance(fault, Fault)
        assert fault.field == place
        assert "Geheimnis" not in str(fault)
    nothing: tuple[object, ...] = (None, [], "", {})
    for empty in nothing:
        bare = {"messages": [AS_MESSAGES[0], AS_MESSAGES[1] | {key: empty}], key: empty, "id": 7, "tags": ["x"]}
        [row] = rows(tmp_path, bare)
        assert isinstance(row, Row)
        assert row.messages == PAIR
