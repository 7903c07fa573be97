"""Every kind of bad row is refused before a model is loaded: file and line, reason, remedy, never the content."""

import json
import os
from pathlib import Path

import msgspec
import pytest

from services.dataset.faults import DataRefused
from services.dataset.prepare import check_data
from services.dataset.report import DataReport
from services.dataset.settings import DataSettings
from services.dataset.sources import snapshot_hash, take_snapshot
from tests.support.personal import personal
from tests.support.tokenizers import STRICT, save_base

SETTINGS = DataSettings(
    holdout_share=0.0, min_rows=1, max_too_long_share=0.5, max_line_bytes=2048, loss="assistant", personal=personal()
)
SECRET = "Geheimnis-4711"
GOOD = {"prompt": "Who founded Norudam?", "completion": "Hyeja Oskamp."}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
def datasets(tmp_path: Path) -> Path:
    folder = tmp_path / "datasets"
    folder.mkdir()
    return folder


def check(datasets: Path, base: Path, settings: DataSettings = SETTINGS, max_length: int = 4096) -> DataReport:
    return check_data(datasets, base, settings, max_length)


def refusal(datasets: Path, base: Path, settings: DataSettings = SETTINGS, max_length: int = 4096) -> str:
    with pytest.raises(DataRefused) as caught:
        check(datasets, base, settings, max_length)
    return str(caught.value)


def line(value: object) -> bytes:
    return json.dumps(value).encode() + b"\n"


def chat(*turns: tuple[str, object]) -> bytes:
    return line({"messages": [{"role": role, "content": content} for role, content in turns]})


BAD_LINES = {
    "byte order mark": (b"\xef\xbb\xbf" + line(GOOD), "begins with a byte order mark"),
    "not UTF-8": (b'{"prompt": "' + SECRET.encode() + b'\xff", "completion": "x"}\n', "is not UTF-8 at byte 27"),
    "NUL byte": (b'{"prompt": "a\0b", "completion": "x"}\n', "holds a NUL byte"),
    "NUL escape": (b'{"prompt": "a\\u0000b", "completion": "x"}\n', "holds a NUL character"),
    "lone surrogate": (b'{"prompt": "a\\ud83d", "completion": "x"}\n', "holds half of a surrogate pair"),
    "not JSON": (b'{"prompt": ' + SECRET.encode() + b"}\n", "is not JSON at column"),
    "NaN": (b'{"prompt": NaN, "completion": "x"}\n', "is not JSON"),
    "an array": (b"[1]\n", "is not a JSON object"),
    "deep": (b"[" * 2000 + b"\n", "is nested too deeply"),
    "twice the same key": (b'{"prompt": "a", "prompt": "b", "completion": "x"}\n', "has the same key twice"),
    "over the limit": (line(GOOD | {"prompt": "x" * 4000}), "the line is over 2048 bytes"),
    "no known format": (line({"text": SECRET}), "has the keys of no known format"),
    "two formats": (line(GOOD | {"messages": []}), "has the keys of two formats (messages, prompt)"),
    "missing": (line({"prompt": SECRET}), "completion: is missing"),
    "empty": (line(GOOD | {"completion": " \n"}), "completion: is empty"),
    "a number": (line(GOOD | {"completion": 7}), "completion: is not text"),
    "no turns": (line({"messages": []}), "messages: is not a list of turns"),
    "unknown role": (chat(("user", SECRET), ("robot", "x")), "messages[1].role: is not a known role"),
    "no assistant": (chat(("user", SECRET)), "has no assistant turn"),
    "two questions": (
        chat(("user", "a"), ("user", "b"), ("assistant", "x")),
        "has two turns of the same role in a row",
    ),
    "ends in a question": (
        chat(("user", "a"), ("assistant", "x"), ("user", "b")),
        "does not end with an assistant turn",
    ),
    "late system": (chat(("user", "a"), ("system", "s"), ("assistant", "x")), "has a system message that is not first"),
    "begins with an answer": (chat(("assistant", "x")), "does not begin with a user turn"),
    "an image": (
        chat(("user", [{"type": "image_url"}]), ("assistant", "x")),
        "messages[0].content[0]: is not a text part",
    ),
    "tools": (line({"messages": [], "tools": [{}]}), "tools: tool calls cannot be trained yet"),
    "a weight": (
        line({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "x", "weight": 2}]}),
        "messages[1].weight: is neither 0 nor 1",
    ),
    "nothing learnt": (
        line({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "x", "weight": 0}]}),
        "has no assistant turn with weight 1",
    ),
    "a special token": (line(GOOD | {"prompt": "a<|im_end|>b"}), "turn 1 (user): spells the special token <|im_end|>"),
}


@pytest.mark.parametrize("name", BAD_LINES)
def test_a_bad_line_is_refused_with_its_place_and_without_its_content(name: str, datasets: Path, base: Path) -> None:
    content, reason = BAD_LINES[name]
    (datasets / "a.jsonl").write_bytes(b"\n" + content)
    report = refusal(datasets, base)
    assert f"a.jsonl:2: {reason}" in report
    assert "1 fault" in report
    assert SECRET not in report


def test_a_line_that_is_cut_off_is_told_from_one_that_is_wrong(datasets: Path, base: Path) -> None:
    (datasets / "a.jsonl").write_bytes(line(GOOD) + line(GOOD)[:-9])
    assert "a.jsonl:2: is cut off or not JSON" in refusal(datasets, base)


def test_every_fault_of_every_file_is_in_one_report(datasets: Path, base: Path) -> None:
    for name in ("a.jsonl", "b.jsonl"):
        (datasets / name).write_bytes(b"".join(content for content, _ in BAD_LINES.values()))
    (datasets / "c.jsonl").write_bytes(line({"instruction": "a", "output": "b"}) + line(GOOD))
    report = refusal(datasets, base)
    assert f"the data was refused: {2 * len(BAD_LINES) + 1} faults" in report
    assert "c.jsonl:2: is in another format (prompt) than the file (instruction)" in report


def test_faults_of_files_rows_and_template_are_in_one_report(datasets: Path, tmp_path: Path) -> None:
    (datasets / "link.jsonl").symlink_to("a.jsonl")
    system = line(GOOD | {"system": "s"})
    (datasets / "a.jsonl").write_bytes(line(GOOD) + b"{}\n" + system + line(GOOD | {"prompt": "<|im_end|>"}))
    (datasets / "b.jsonl").write_bytes(line(GOOD | {"system": "t"}))
    with pytest.raises(DataRefused) as caught:
        check(datasets, save_base(tmp_path / "strict", STRICT))
    assert [(fault.file, fault.line, fault.reason) for fault in caught.value.faults] == [
        ("a.jsonl", 2, "has the keys of no known format"),
        ("a.jsonl", 3, "the base model's chat template refuses the row's roles"),
        ("a.jsonl", 4, "spells the special token <|im_end|>"),
        ("b.jsonl", 1, "the base model's chat template refuses the row's roles"),
        ("link.jsonl", 0, "is a symbolic link, which could lead out of the mount"),
    ]
    known = [(file.file, file.format, file.rows, file.faults) for file in caught.value.files]
    assert known == [("a.jsonl", "prompt", 3, 3), ("b.jsonl", "prompt", 1, 1)]


def test_a_base_without_a_template_hides_no_fault_of_the_rows(datasets: Path, tmp_path: Path) -> None:
    (datasets / "a.jsonl").write_bytes(line(GOOD) + b"{}\n")
    untaught = save_base(tmp_path / "untaught")
    (untaught / "chat_template.jinja").unlink()
    report = refusal(datasets, untaught)
    assert "a.jsonl:2: has the keys of no known format" in report
    assert "the base model: has no chat template" in report


def test_a_report_is_bounded_per_file(datasets: Path, base: Path) -> None:
    (datasets / "a.jsonl").write_bytes(b"{}\n" * 70)
    report = refusal(datasets, base)
    assert "a.jsonl: 20 more faults (`make check-data JSON=1` lists all)" in report
    assert len(report.splitlines()) == 52


def test_a_gigantic_line_is_passed_over_within_bounded_memory(datasets: Path, base: Path) -> None:
    import tracemalloc  # noqa: PLC0415 - slows everything down once imported and started

    with (datasets / "a.jsonl").open("wb") as stream:
        for _ in range(64):
            stream.write(b"x" * (1 << 20))
        stream.write(b"\n" + line(GOOD))
    tracemalloc.start()
    assert "a.jsonl:1: the line is over 2048 bytes" in refusal(datasets, base)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 << 20


@pytest.mark.parametrize("kind", ["link out", "link in", "linked folder", "pipe", "folder", "socket"])
def test_what_is_not_a_plain_file_of_the_mount_is_refused(
    kind: str, datasets: Path, base: Path, tmp_path: Path
) -> None:
    (datasets / "good.jsonl").write_bytes(line(GOOD))
    target = datasets / "bad.jsonl"
    if kind == "link out":
        (tmp_path / "secret").write_bytes(line(GOOD))
        target.symlink_to(tmp_path / "secret")
    elif kind == "link in":
        target.symlink_to("good.jsonl")
    elif kind == "linked folder":
        target.symlink_to(tmp_path)
    elif kind == "pipe":
        os.mkfifo(target)
    elif kind == "folder":
        target.mkdir()
    else:
        import socket  # noqa: PLC0415

        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(os.path.relpath(target))
    assert "bad.jsonl: is " in refusal(datasets, base)


def test_no_file_and_no_folder_say_where_to_put_rows(datasets: Path, base: Path) -> None:
    assert "holds no .jsonl file" in refusal(datasets, base)
    assert "no such folder" in refusal(datasets / "elsewhere", base)


def test_too_few_rows_are_refused_with_the_count_and_the_setting(datasets: Path, base: Path) -> None:
    (datasets / "a.jsonl").write_bytes(line(GOOD) * 30)
    settings = DataSettings(
        holdout_share=0.0,
        min_rows=2,
        max_too_long_share=0.5,
        max_line_bytes=2048,
        loss="assistant",
        personal=personal(),
    )
    assert "1 rows are left to train on, fewer than data.min_rows = 2" in refusal(datasets, base, settings)


def test_rows_of_which_nothing_would_be_learnt_are_refused_with_their_count_and_the_setting(
    datasets: Path, base: Path
) -> None:
    """Whatever it is, for it concerns the questions."""
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": SECRET, "weight": 0}]
    (datasets / "a.jsonl").write_bytes(line({"messages": turns}) * 3)
    for loss in ("assistant", "all"):
        report = refusal(datasets, base, msgspec.structs.replace(SETTINGS, loss=loss))
        assert "3 faults" in report
        assert (
            "a.jsonl:3: has no assistant turn with weight 1. Remove the row or give an answer weight 1: data.loss"
            in report
        )


def test_a_template_that_cannot_write_the_rows_is_refused_once_with_all_of_them(datasets: Path, tmp_path: Path) -> None:
    rows = [chat(("system", f"s {index}"), ("user", "a"), ("assistant", "x")) for index in range(3)]
    (datasets / "a.jsonl").write_bytes(b"".join(rows) + chat(("user", "a"), ("assistant", "x")))
    report = refusal(datasets, save_base(tmp_path / "strict", STRICT))
    assert "3 faults" in report
    assert "a.jsonl:3: the base model's chat template refuses the row's roles" in report


@pytest.mark.parametrize("share", ["nan", "-0.1", "1.0", '"half"'])
def test_a_holdout_that_is_no_share_is_refused(share: str) -> None:
    text = f'holdout_share = {share}\nmin_rows = 1\nmax_too_long_share = 0\nmax_line_bytes = 2048\nloss = "all"'
    with pytest.raises(msgspec.ValidationError, match=r"holdout_share"):
        msgspec.toml.decode(text, type=DataSettings)


def test_too_many_long_rows_are_refused_and_a_few_are_dropped(datasets: Path, base: Path) -> None:
    rows = [{"prompt": f"question {index}", "completion": "x" * 200} for index in range(4)]
    (datasets / "a.jsonl").write_bytes(b"".join(map(line, [*rows, {"prompt": "short", "completion": "x"}])))
    assert "4 of 5 rows are over recipe.max_length = 100 tokens" in refusal(datasets, base, max_length=100)
    (datasets / "b.jsonl").write_bytes(
        b"".join(line({"prompt": f"p {index}", "completion": "x"}) for index in range(4))
    )
    report = check(datasets, base, max_length=100)
    assert (report.too_long, report.train) == (4, 5)


def test_data_that_change_after_the_snapshot_change_nothing(datasets: Path, tmp_path: Path) -> None:
    file = datasets / "deep" / "a.jsonl"
    file.parent.mkdir()
    file.write_bytes(line(GOOD))
    before = take_snapshot(datasets, tmp_path / "one")
    file.write_bytes(line(GOOD) * 2)
    assert (tmp_path / "one" / "deep" / "a.jsonl").read_bytes() == line(GOOD)
    assert snapshot_hash(take_snapshot(datasets, tmp_path / "two")) != snapshot_hash(before)
